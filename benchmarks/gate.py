"""The gate over simulated years: wrong promotions where no candidate is better, power where one is, and what a list's depth is worth.

    python benchmarks/gate.py            # about three minutes on one core; writes benchmarks/results/gate.json
    python benchmarks/gate.py --small    # seconds, prints only

Targets have ranks with P(rank ≤ r) = recall@10 · (r / 10)^0.8, as on Games, by a normal copula between champion and candidate: with 0.75
their hits@10 at recall 0.02 correlate 0.36. A better candidate has more of every rank, by one factor. Evidence and what is needed
are `dealrec_core.evaluation.gate`'s own; a night's users come as counts of pairs of ranks, because users of one pair gain alike.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import multivariate_normal, norm

from benchmarks.machine import machine
from dealrec_core.evaluation import gate

RESULTS = Path(__file__).resolve().parent / "results" / "gate.json"
CONFIDENCE, NIGHTS_A_YEAR, SLOPE, COPULA = 0.9, 365, 0.8, 0.75
CATALOGUE = 17_332
Counts = NDArray[np.int64]

METRICS: dict[str, tuple[int, Callable[[np.ndarray], np.ndarray]]] = {
    "recall@10": (10, np.ones_like),
    "mrr@10": (10, lambda rank: 1 / rank),
    "ndcg@10": (10, lambda rank: 1 / np.log2(1 + rank)),
    "ndcg@20": (20, lambda rank: 1 / np.log2(1 + rank)),
    "ndcg@50": (50, lambda rank: 1 / np.log2(1 + rank)),
    "ndcg@100": (100, lambda rank: 1 / np.log2(1 + rank)),
    "ndcg, not cut": (CATALOGUE, lambda rank: 1 / np.log2(1 + rank)),
}
"""Depth of each metric, and what a hit at a rank is worth, for users with one target."""


@dataclass(frozen=True)
class Town:
    """A catalogue's users: pairs of classes of ranks with their chances, and what each pair gains."""

    chances: np.ndarray
    gains: np.ndarray

    @property
    def signal(self) -> float:
        """Squared mean over variance of a user's gain: users times this is the square of a z value."""
        mean = float(self.chances @ self.gains)
        return mean**2 / float(self.chances @ self.gains**2 - mean**2)

    def winnings(self, users: int, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
        """Logarithms of what the bets of many nights make of their money, (*shape, stakes)."""
        return np.asarray(random.multinomial(users, self.chances, size=shape) @ gate.winnings(self.gains))


def town(metric: str, recall: float, lift: float) -> Town:
    """Users of a champion with a recall@10 and a candidate with `lift` times of it."""
    depth, worth = METRICS[metric]
    edges = np.unique(np.geomspace(1, depth, 14).round())  # the last rank of each class
    values = np.append(worth((edges + np.append(1, edges[:-1] + 1)) / 2), 0.0)  # a class of ranks is worth its middle
    shares = [np.minimum(level * (edges / 10) ** SLOPE, 1 - 1e-9) for level in (recall, recall * lift)]
    grid = np.stack(np.meshgrid(*(norm.ppf(share) for share in shares), indexing="ij"), axis=-1)
    copula = multivariate_normal([0, 0], [[1, COPULA], [COPULA, 1]])
    both = np.asarray(copula.cdf(grid)).reshape(len(edges), len(edges))
    table = np.block([[both, shares[0][:, None]], [shares[1][None, :], np.ones((1, 1))]])
    chances = np.diff(np.diff(np.pad(table, ((1, 0), (1, 0))), axis=0), axis=1).clip(0)
    gains = values[None, :] - values[:, None]
    return Town((chances / chances.sum()).ravel(), gains.ravel())


@dataclass
class Years:
    """Many years at once: nights with a candidate each, and one shadow; every array is (years,)."""

    town: Town
    first: int
    """Users who judge a candidate in the night that made it."""
    new: int
    """Users of new events, who judge the shadow."""
    random: np.random.Generator

    def first_promotion(self, years: int, nights: int) -> np.ndarray:
        """The night of the first promotion of each year, from 1; 0 where there was none."""
        numbers, promoted = np.zeros(years, dtype=np.int64), np.zeros(years, dtype=np.int64)
        shadow, is_there = np.zeros((years, len(gate.STAKES))), np.zeros(years, dtype=bool)
        for night in range(1, nights + 1):
            shadow += self.town.winnings(self.new, (years,), self.random)
            candidate = self.town.winnings(self.first, (years,), self.random)
            of_candidate = gate.evidence(candidate) / gate.needed(night, CONFIDENCE)
            of_shadow = np.where(is_there, gate.evidence(shadow) / gate.needed(numbers, CONFIDENCE), 0.0)
            passes = np.maximum(of_candidate, of_shadow) >= 1
            promoted[(promoted == 0) & passes] = night
            leads = np.where(gate.evidence(candidate) > 1, of_candidate, 0.0) > np.where(
                gate.evidence(shadow) > 1, of_shadow, 0.0
            )
            stays = is_there & (gate.evidence(shadow) > 1)
            shadow = np.where(leads[:, None], candidate, shadow)
            numbers, is_there = np.where(leads, night, numbers), leads | stays
        return promoted


def wrong(years: int, random: np.random.Generator) -> dict[str, Any]:
    """Share of years with a wrong promotion, where champion and candidates are equal."""
    results = {}
    for metric, recall, users in (
        ("ndcg@20", 0.02, 500),
        ("ndcg@20", 0.02, 8696),
        ("ndcg@20", 0.45, 500),
        ("recall@10", 0.45, 500),
    ):
        simulated = Years(town(metric, recall, 1.0), users, max(1, users // 10), random)
        share = float((simulated.first_promotion(years, NIGHTS_A_YEAR) > 0).mean())
        results[f"{metric}, recall {recall}, {users} users"] = share
    return results


def power(years: int, random: np.random.Generator) -> dict[str, Any]:
    """Share of stretches of ten nights with a promotion, where every candidate has 20% more recall."""
    results = {}
    for metric in ("recall@10", "ndcg@20", "ndcg@50", "ndcg@100"):
        games = town(metric, 0.02, 1.2)
        for first, new in ((500, 50), (500, 500), (1000, 1000), (2000, 2000), (8696, 870), (8696, 8696)):
            nights = Years(games, first, new, random).first_promotion(years, 10)
            results[f"{metric}, {first} users, {new} new a night"] = float((nights > 0).mean())
    return results


def main() -> None:
    """Runs all simulations, prints them and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true")
    small = parser.parse_args().small
    random, years = np.random.default_rng(0), 20 if small else 1000
    found = {
        "documented bound of a wrong promotion": 1 - CONFIDENCE,
        "share of years with a wrong promotion": wrong(years, random),
        "power for 20% within ten nights": power(years, random),
        "squared z a thousand users, 20% at recall 0.02": {
            metric: round(1000 * town(metric, 0.02, 1.2).signal, 2) for metric in METRICS
        },
        "years": years,
        "machine": machine(),
    }
    print(json.dumps(found, indent=1))
    if not small:
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
