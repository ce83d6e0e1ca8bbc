"""Do influence scores predict retraining? LDS and leave-one-out: `python benchmarks/fidelity.py [--data games]`.

A small SASRec on the popular items of MovieLens-small or Games, fitted without randomness
(dealrec_core/influence/fidelity.py), from several starts. Every estimator sees the same halves and the same left-out
samples. Writes benchmarks/results/fidelity.json after every start; other cells in that file are kept.
"""

import argparse
import json
import os
import platform
import time
from dataclasses import dataclass, field
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
ITEMS = 200
SIZES = {"movielens-small": (5, 5), "games": (2, 2)}
"""Items of a history and train targets of a user; Games has few items a user."""
RELEASED = {
    "parameters": "released",
    "loss": "bce",
    "negatives": 1,
    "solver": "released",
    "target": "released",
    "risk": "train",
    "curvature": "hessian",
}
OURS = "cg, damping = decay"
ESTIMATORS: dict[str, dict[str, Any]] = {
    OURS: {"damping_rule": "absolute"},
    **{f"cg, damping {share:g} of top": {"damping": share} for share in (1e-4, 1e-3, 1e-2, 1e-1, 1.0)},
    "cg, damping = decay, risk of train": {"damping_rule": "absolute", "risk": "train"},
    "cg, damping = decay, released weight": {"damping_rule": "absolute", "parameters": "released"},
    "identity": {"solver": "identity"},
    "released": RELEASED,
}
BASELINES = ("identity", "released", "random")


@dataclass
class Studies:
    """What each estimator predicted and what happened, one entry per start."""

    risks: list[np.ndarray] = field(default_factory=list)
    moved: list[np.ndarray] = field(default_factory=list)
    sums: dict[str, list[np.ndarray]] = field(default_factory=dict)
    alone: dict[str, list[np.ndarray]] = field(default_factory=dict)
    evidence: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def main() -> None:
    """Fits, scores, refits, prints and writes the results after every start."""
    options = _options()
    torch.set_num_threads(1)
    folder = (ROOT / os.environ.get("DEALREC_DATA", "../shared/data")).resolve() / options.data
    users = movielens(folder) if options.data == "movielens-small" else games(folder)
    train, risk = samples(users, *SIZES[options.data])
    config = FidelityConfig(
        subsets=options.subsets, left_out=options.left_out, steps=options.steps, decay=options.decay
    )
    studies, fits = Studies(), []
    for seed in range(options.starts):
        fits.append(_study(train, risk, studies, history=SIZES[options.data][0], config=config, seed=seed))
        found = {
            "machine": {"cores": os.cpu_count(), "threads": 1, "torch": torch.__version__, "cpu": platform.machine()},
            "data": {"train": len(train), "risk": len(risk), "items": ITEMS},
            "config": config.model_dump(),
            "starts": fits,
            "estimators": {name: _summary(name, studies) for name in studies.sums},
            "cpu_s": round(time.process_time(), 1),
        }
        _write(f"{options.data}, decay {options.decay:g}", found)
    print(json.dumps(found, indent=1))


def movielens(folder: Path) -> list[list[int]]:
    """Movies that each user rated 4 or more, among the popular ones, in order of time."""
    ratings = pl.read_csv(
        folder / "ratings.csv", columns=["userId", "movieId", "rating", "timestamp"], truncate_ragged_lines=True
    )
    return _popular(ratings.filter(pl.col("rating") >= 4).sort("userId", "timestamp", "movieId"), "movieId")


def games(folder: Path) -> list[list[int]]:
    """Popular games that each user bought in the train period, in order of time."""
    lines = (folder / "sequential_train.txt").read_text().splitlines()
    rows = [(user, int(item)) for user, line in enumerate(lines) for item in line.split()[1:]]
    return _popular(pl.DataFrame(rows, schema=["userId", "item_id"], orient="row"), "item_id")


def _popular(events: pl.DataFrame, item: str) -> list[list[int]]:
    counts = events.group_by(item).len().sort(["len", item], descending=[True, False]).head(ITEMS)
    numbered = counts.select(item, pl.int_range(pl.len()).alias("number"))
    kept = events.join(numbered, on=item, maintain_order="left")
    return kept.group_by("userId", maintain_order=True).agg("number")["number"].to_list()


def samples(users: list[list[int]], history: int, targets: int) -> tuple[Sequences, Sequences]:
    """A user's last item is the risk, the `targets` before it are train samples."""
    users = [items for items in users if len(items) > history + targets]
    train = [(items, -back) for back in range(2, 2 + targets) for items in users]
    return _sequences(train, history), _sequences([(items, -1) for items in users], history)


def _sequences(places: list[tuple[list[int], int]], history: int) -> Sequences:
    histories = np.array([items[len(items) + at - history : len(items) + at] for items, at in places])
    targets = np.array([items[at] for items, at in places])
    return Sequences(histories.ravel(), np.arange(len(places) + 1) * history, targets)


def _study(
    train: Sequences, risk: Sequences, studies: Studies, *, history: int, config: FidelityConfig, seed: int
) -> dict[str, float]:
    """Adds one start to the studies."""
    start = networks.build("sasrec", Shape(ITEMS, width=16, layers=1, history_length=history), seed=seed)
    fitted = fidelity.refit(start, train, config=config)
    scores = _scored(fitted, train, risk, studies, decay=config.decay, seed=seed)
    kept = fidelity.halves(len(train), config=config, seed=100 + seed)
    studies.risks.append(fidelity.half_risks(start, train, risk, kept=kept, config=config))
    rows = np.random.default_rng(200 + seed).choice(len(train), config.left_out, replace=False)
    studies.moved.append(fidelity.leave_one_out(fitted, train, risk, rows=rows, config=config))
    for name, values in scores.items():
        studies.sums.setdefault(name, []).append(fidelity.left_out_sums(values, kept))
        studies.alone.setdefault(name, []).append(values[rows])
    return {
        "train loss": fidelity.risk_of(fitted, train),
        "risk": fidelity.risk_of(fitted, risk),
        "risk over halves, mean": float(studies.risks[-1].mean()),
        "risk over halves, standard deviation": float(studies.risks[-1].std()),
    }


def _scored(
    fitted: Any, train: Sequences, risk: Sequences, studies: Studies, *, decay: float, seed: int
) -> dict[str, np.ndarray]:
    scores = {"random": np.random.default_rng(300 + seed).standard_normal(len(train))}
    for name, changes in ESTIMATORS.items():
        settings = {"damping": decay, "most_steps": 2000, **changes}
        aim = train if settings.get("risk") == "train" else risk
        try:
            found = influence.score(fitted, train, aim, config=InfluenceConfig(**settings), seed=seed)
        except NumericsError as error:
            studies.evidence.setdefault(name, []).append({"error": str(error)})
            continue
        scores[name] = found.scores
        studies.evidence.setdefault(name, []).append(
            {
                "residual": float(f"{found.residual:.2e}"),
                "products": found.products,
                "damping": float(f"{found.damping:.3g}"),
                "top eigenvalue": float(f"{found.top_eigenvalue:.3g}"),
                "alignment of q and v": round(found.alignment, 3),
            }
        )
    return scores


def _summary(name: str, studies: Studies) -> dict[str, Any]:
    """Correlations with their intervals over all starts, and the paired gains over each baseline."""
    found: dict[str, Any] = {"evidence": studies.evidence.get(name, [])}
    for title, predicted, wanted in (
        ("lds", studies.sums, studies.risks),
        ("leave one out", studies.alone, studies.moved),
    ):
        if len(predicted[name]) < len(wanted):
            continue  # it failed from one of the starts; its evidence says why
        pairs = list(zip(predicted[name], wanted, strict=True))
        found[title] = _rounded(fidelity.mean_rank_correlation(pairs, seed=0))
        for other in BASELINES:
            if other != name and len(predicted.get(other, [])) == len(wanted):
                gain = fidelity.mean_rank_correlation(pairs, seed=0, baselines=predicted[other])
                found[f"{title}, gain over {other}"] = _rounded(gain)
    return found


def _rounded(found: fidelity.Correlation) -> list[float]:
    return [round(found.value, 3), round(found.low, 3), round(found.high, 3)]


def _write(cell: str, found: dict[str, Any]) -> None:
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(known | {cell: found}, indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=list(SIZES), default="movielens-small")
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--subsets", type=int, default=80)
    parser.add_argument("--left-out", type=int, default=40)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--decay", type=float, default=2e-2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
