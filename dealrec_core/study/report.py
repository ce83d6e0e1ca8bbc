"""Tables of a study: the gain of each method over the reference, its cost, and whether the seeds agree."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from dealrec_core.evaluation.comparison import Difference, difference, holm
from dealrec_core.study.config import StudyConfig, cells
from dealrec_core.study.results import Result, find

METRICS = ("recall", "ndcg", "log_likelihood")
QUESTION = ["dataset", "backend", "ratio"]


@dataclass(frozen=True)
class Group:
    """All seeds of one method on one data set, backend, surrogate and ratio."""

    dataset: str
    backend: str
    surrogate: str
    method: str
    ratio: float
    results: tuple[Result, ...]
    """By seed."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that have finished."""
        return tuple(result.cell.seed for result in self.results)

    def mean(self, fact: str) -> float:
        """Mean of a fact over the seeds."""
        return float(np.mean([result.facts[fact] for result in self.results]))

    def values(self, metric: str, seeds: Sequence[int]) -> np.ndarray:
        """One metric, (S, U)."""
        by_seed = {result.cell.seed: result for result in self.results}
        return np.stack([by_seed[seed].values(metric).to_numpy() for seed in seeds])


def finished(config: StudyConfig) -> list[Result]:
    """The results of all cells that have finished."""
    return [result for cell in cells(config) if (result := find(config, cell)) is not None]


def groups(results: Sequence[Result]) -> list[Group]:
    """Results of one method together, in the order of the cells."""
    members: dict[tuple[str, str, str, str, float], list[Result]] = {}
    for result in results:
        cell = result.cell
        members.setdefault((cell.dataset, cell.backend, cell.surrogate, cell.method, cell.ratio), []).append(result)
    return [
        Group(*key, tuple(sorted(results, key=lambda result: result.cell.seed))) for key, results in members.items()
    ]


def table(config: StudyConfig) -> pl.DataFrame:
    """One row per method, data set, backend, surrogate and ratio: means, difference to the reference, cost.

    `p holm` is corrected over all methods compared on one data set, backend and ratio. `comparison` says better or worse
    only where the interval of `config.metric` excludes zero and the corrected p is below 1 − confidence. One seed says nothing
    about others: such a method has an interval over users, and neither a p nor such a word.
    """
    compared = groups(finished(config))
    rows = [_row(config, group, _reference(config, group, compared)) for group in compared]
    if not rows:
        return pl.DataFrame()
    frame = pl.DataFrame(rows, infer_schema_length=None)
    return _compared(config, frame).sort(*QUESTION, config.metric, descending=[False, False, False, True])


def _row(config: StudyConfig, group: Group, reference: Group | None) -> dict[str, object]:
    row: dict[str, object] = {
        "dataset": group.dataset,
        "backend": group.backend,
        "surrogate": group.surrogate,
        "method": group.method,
        "ratio": group.ratio,
        "seeds": len(group.seeds),
        "chosen": int(group.mean("chosen")),
        **{metric: group.mean(metric) for metric in METRICS},
    }
    for metric in dict.fromkeys([config.metric, *METRICS]):
        gap = _gap(config, group, reference, metric)
        row |= {f"{metric} gain": gap.mean, f"{metric} low": gap.low, f"{metric} high": gap.high, f"{metric} p": gap.p}
    shared = _seeds(group, reference)
    costs = {name: group.mean(name) for name in ("selection_s", "tuning_s", "tokens", "flops")}
    return row | {"paired seeds": len(shared), **costs, "total_s": costs["selection_s"] + costs["tuning_s"]}


def _gap(config: StudyConfig, group: Group, reference: Group | None, metric: str) -> Difference:
    shared = _seeds(group, reference)
    if reference is None or not shared or reference is group:
        return Difference(*[float("nan")] * 5)
    return difference(
        group.values(metric, shared),
        reference.values(metric, shared),
        confidence=config.confidence,
        resamples=config.resamples,
        seed=config.seed,
    )


def _seeds(group: Group, reference: Group | None) -> list[int]:
    return sorted(set(group.seeds) & set(reference.seeds)) if reference else []


def _reference(config: StudyConfig, group: Group, all_groups: Sequence[Group]) -> Group | None:
    same = [
        other
        for other in all_groups
        if (other.dataset, other.backend, other.ratio) == (group.dataset, group.backend, group.ratio)
        and other.method == config.reference
    ]
    return same[0] if same else None


def _compared(config: StudyConfig, frame: pl.DataFrame) -> pl.DataFrame:
    metric = config.metric
    parts = []
    for _, part in frame.group_by(QUESTION, maintain_order=True):
        asked = part.filter(pl.col("paired seeds") > 1, pl.col("method") != config.reference)
        corrected = dict(
            zip(
                zip(asked["method"], asked["surrogate"], strict=True), holm(asked[f"{metric} p"].to_list()), strict=True
            )
        )
        keys = list(zip(part["method"], part["surrogate"], strict=True))
        adjusted = pl.Series("p holm", [corrected.get(key) for key in keys], dtype=pl.Float64)
        parts.append(part.with_columns(adjusted))
    sure = pl.col("p holm") < 1 - config.confidence
    return pl.concat(parts).with_columns(
        pl.when(pl.col("method") == config.reference)
        .then(pl.lit("reference"))
        .when(pl.col("paired seeds") == 0)
        .then(pl.lit("not compared"))
        .when(pl.col("paired seeds") == 1)
        .then(pl.lit("one seed, no decision"))
        .when(sure & (pl.col(f"{metric} low") > 0))
        .then(pl.lit("better"))
        .when(sure & (pl.col(f"{metric} high") < 0))
        .then(pl.lit("worse"))
        .otherwise(pl.lit("no difference shown"))
        .alias("comparison")
    )


def markdown(config: StudyConfig, frame: pl.DataFrame) -> str:
    """The `table` for reading, one section per data set, backend and ratio."""
    lines = [
        f"Metric of the comparison: {config.metric}@{config.evaluation.k}; intervals at {config.confidence:.0%}.",
        "",
    ]
    if frame.is_empty():
        return "\n".join([*lines, "No cell has finished."])
    for key, part in frame.group_by(QUESTION, maintain_order=True):
        dataset, backend, ratio = key
        lines += [f"### {dataset}, {backend}, {float(str(ratio)):.2%} of the samples", ""]
        lines += [
            "| method | surrogate | seeds | recall | ndcg | gain over reference (ndcg) | log-likelihood gain | p, Holm | "
            "comparison | selection s | tuning s | tokens | TFLOP |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        lines += [_line(row, config.metric) for row in part.iter_rows(named=True)]
        lines += [""]
    return "\n".join(lines).replace("(ndcg)", f"({config.metric})")


def _line(row: dict[str, object], metric: str) -> str:
    compared = row["comparison"] not in ("reference", "not compared")
    cells_of = [
        row["method"],
        row["surrogate"],
        row["seeds"],
        f"{row['recall']:.4f}",
        f"{row['ndcg']:.4f}",
        _interval(row, metric) if compared else "—",
        _interval(row, "log_likelihood") if compared else "—",
        "—" if row["p holm"] is None else f"{row['p holm']:.3f}",
        row["comparison"],
        f"{row['selection_s']:.0f}",
        f"{row['tuning_s']:.0f}",
        f"{row['tokens']:.0f}",
        f"{float(str(row['flops'])) / 1e12:.2f}",
    ]
    return "| " + " | ".join(map(str, cells_of)) + " |"


def _interval(row: dict[str, object], metric: str) -> str:
    return f"{row[f'{metric} gain']:+.4f} [{row[f'{metric} low']:+.4f}, {row[f'{metric} high']:+.4f}]"
