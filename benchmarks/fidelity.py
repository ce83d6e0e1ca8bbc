"""Do influence scores predict retraining? LDS and leave-one-out on MovieLens-small: `python benchmarks/fidelity.py`.

A small SASRec on the popular movies, fitted without randomness (dealrec_core/influence/fidelity.py). Every estimator
sees the same halves and the same left-out samples. Writes benchmarks/results/fidelity.json.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from dealrec_core import influence
from dealrec_core.errors import NumericsError
from dealrec_core.influence import InfluenceConfig, fidelity
from dealrec_core.influence.fidelity import FidelityConfig
from dealrec_core.sequences import Sequences
from dealrec_core.surrogate import networks
from dealrec_core.surrogate.sasrec import Shape

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "fidelity.json"
ITEMS, HISTORY_LENGTH, TARGETS_PER_USER = 200, 5, 3
RELEASED = {
    "parameters": "released",
    "loss": "bce",
    "negatives": 1,
    "solver": "released",
    "target": "released",
    "risk": "train",
    "curvature": "hessian",
}
ESTIMATORS: dict[str, dict[str, Any]] = {
    "cg, damping = decay": {"damping_rule": "absolute"},
    **{f"cg, damping {share:g} of top": {"damping": share} for share in (1e-4, 1e-3, 1e-2, 1e-1, 1.0)},
    "cg, damping = decay, risk of train": {"damping_rule": "absolute", "risk": "train"},
    "cg, damping = decay, released weight": {"damping_rule": "absolute", "parameters": "released"},
    "identity": {"solver": "identity"},
    "released": RELEASED,
}


def main() -> None:
    """Fits, scores, refits, prints and writes the results."""
    options = _options()
    torch.set_num_threads(1)
    train, risk = movielens((ROOT / os.environ.get("DEALREC_DATA", "../shared/data")).resolve() / "movielens-small")
    config = FidelityConfig(
        subsets=options.subsets, left_out=options.left_out, steps=options.steps, decay=options.decay
    )
    start = networks.build("sasrec", Shape(ITEMS, width=16, layers=1, history_length=HISTORY_LENGTH), seed=0)
    fitted = fidelity.refit(start, train, config=config)
    scores, evidence = _scored(fitted, train, risk, decay=config.decay)
    kept = fidelity.halves(len(train), config=config, seed=1)
    risks = fidelity.half_risks(start, train, risk, kept=kept, config=config)
    rows = np.random.default_rng(2).choice(len(train), config.left_out, replace=False)
    moved = fidelity.leave_one_out(fitted, train, risk, rows=rows, config=config)
    found = {
        "data": {"train": len(train), "risk": len(risk), "items": ITEMS},
        "config": config.model_dump(),
        "fitted": {"train loss": fidelity.risk_of(fitted, train), "risk": fidelity.risk_of(fitted, risk)},
        "risk over halves": {"mean": float(risks.mean()), "standard deviation": float(risks.std())},
        "estimators": {
            name: evidence[name]
            | {
                "lds": _rounded(fidelity.linear_datamodelling_score(values, kept, risks, seed=0)),
                "leave one out": _rounded(fidelity.rank_correlation(values[rows], moved, seed=0)),
            }
            for name, values in scores.items()
        },
        "cpu_s": round(time.process_time(), 1),
    }
    print(json.dumps(found, indent=1))
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def movielens(folder: Path) -> tuple[Sequences, Sequences]:
    """Ratings of 4 and more of the popular movies: a user's last one is the risk, the ones before are train targets."""
    ratings = pl.read_csv(
        folder / "ratings.csv", columns=["userId", "movieId", "rating", "timestamp"], truncate_ragged_lines=True
    ).filter(pl.col("rating") >= 4)
    popular = ratings.group_by("movieId").len().sort(["len", "movieId"], descending=[True, False]).head(ITEMS)
    numbered = popular.select("movieId", pl.int_range(pl.len()).alias("item"))
    users = (
        ratings.join(numbered, on="movieId")
        .sort("userId", "timestamp", "movieId")
        .group_by("userId", maintain_order=True)
        .agg("item")["item"]
        .to_list()
    )
    users = [items for items in users if len(items) > HISTORY_LENGTH + TARGETS_PER_USER]
    train = [(items, -back) for back in range(2, 2 + TARGETS_PER_USER) for items in users]
    return _sequences(train), _sequences([(items, -1) for items in users])


def _sequences(places: list[tuple[list[int], int]]) -> Sequences:
    histories = np.array([items[at - HISTORY_LENGTH : at] for items, at in places])
    targets = np.array([items[at] for items, at in places])
    return Sequences(histories.ravel(), np.arange(len(places) + 1) * HISTORY_LENGTH, targets)


def _scored(
    fitted: Any, train: Sequences, risk: Sequences, *, decay: float
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
    scores, evidence = {}, {}
    for name, changes in ESTIMATORS.items():
        settings = {"damping": decay, "most_steps": 2000, **changes}
        try:
            found = influence.score(
                fitted,
                train,
                train if settings.get("risk") == "train" else risk,
                config=InfluenceConfig(**settings),
                seed=0,
            )
        except NumericsError as error:
            print(f"{name}: {error}", flush=True)
            continue
        scores[name] = found.scores
        evidence[name] = {
            "residual": float(f"{found.residual:.2e}"),
            "products": found.products,
            "damping": float(f"{found.damping:.3g}"),
            "alignment of q and v": round(found.alignment, 3),
        }
    scores["random"], evidence["random"] = np.random.default_rng(3).standard_normal(len(train)), {}
    return scores, evidence


def _rounded(found: fidelity.Correlation) -> list[float]:
    return [round(found.value, 3), round(found.low, 3), round(found.high, 3)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subsets", type=int, default=80)
    parser.add_argument("--left-out", type=int, default=40)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--decay", type=float, default=2e-2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
