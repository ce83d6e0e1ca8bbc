"""A study's tables: what each method gained over the reference, at what cost, and whether the seeds agree."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from dealrec_core.evaluation.comparison import Difference, difference, holm
from dealrec_core.study.config import Cell, StudyConfig, cells
from dealrec_core.study.results import Result, find

METRICS = ("recall", "ndcg", "log_likelihood")
QUESTION = ["dataset", "backend", "ratio"]


@dataclass(frozen=True)
class Group:
    """All seeds of one method on one data set, backend, surrogate and ratio."""

    cell: Cell
    """The cell of the first seed."""
    results: dict[int, Result]
    """By seed."""

    @property
    def question(self) -> tuple[str, str, float]:
        """The data set, backend and ratio, on which methods are compared."""
        return self.cell.dataset, self.cell.backend, self.cell.ratio

    def mean(self, fact: str) -> float:
        """Mean of a fact over the seeds."""
        return float(np.mean([result.facts[fact] for result in self.results.values()]))

    def values(self, metric: str, seeds: Sequence[int]) -> np.ndarray:
        """One metric, (S, U)."""
        return np.stack([self.results[seed].values(metric).to_numpy() for seed in seeds])


def finished(config: StudyConfig) -> list[Result]:
    """The results of all cells that have finished, by seed."""
    results = (find(config, cell) for cell in cells(config))
    return [result for result in results if result is not None]


def groups(results: Sequence[Result]) -> list[Group]:
    """Results of one method together, in the order of the cells."""
    members: dict[tuple[object, ...], Group] = {}
    for result in results:
        members.setdefault(result.cell[:-1], Group(result.cell, {})).results[result.cell.seed] = result
    return list(members.values())


def table(config: StudyConfig) -> pl.DataFrame:
    """One row per method, data set, backend, surrogate and ratio: means, difference to the reference, cost.

    `p holm` is corrected over all methods compared on one data set, backend and ratio. `verdict` says better or worse
    only where the interval of `config.metric` excludes zero and the corrected p is below 1 − confidence. One seed says nothing
    about others: such a method has an interval over users, and neither a p nor a verdict.
    """
    compared = groups(finished(config))
    references = {group.question: group for group in reversed(compared) if group.cell.method == config.reference}
    rows = [_row(config, group, references.get(group.question)) for group in compared]
    if not rows:
        return pl.DataFrame()
    frame = pl.DataFrame(rows, infer_schema_length=None)
    return _judged(config, frame).sort(*QUESTION, config.metric, descending=[False, False, False, True])


def _row(config: StudyConfig, group: Group, reference: Group | None) -> dict[str, object]:
    row: dict[str, object] = dict(zip(Cell._fields[:-1], group.cell, strict=False))
    row |= {"seeds": len(group.results), "chosen": int(group.mean("chosen"))}
    row |= {metric: group.mean(metric) for metric in METRICS}
    shared = sorted(group.results.keys() & reference.results) if reference else []
    for metric in dict.fromkeys([config.metric, *METRICS]):
        gap = Difference(*[float("nan")] * 5)
        if reference is not None and shared and reference is not group:
            first, second = group.values(metric, shared), reference.values(metric, shared)
            confidence, resamples = config.confidence, config.resamples
            gap = difference(first, second, confidence=confidence, resamples=resamples, seed=config.seed)
        row |= {f"{metric} gain": gap.mean, f"{metric} low": gap.low, f"{metric} high": gap.high, f"{metric} p": gap.p}
    costs = {name: group.mean(name) for name in ("selection_s", "tuning_s", "tokens", "flops")}
    return row | {"paired seeds": len(shared), **costs, "total_s": costs["selection_s"] + costs["tuning_s"]}


def _judged(config: StudyConfig, frame: pl.DataFrame) -> pl.DataFrame:
    metric, parts = config.metric, []
    judged = (pl.col("paired seeds") > 1) & (pl.col("method") != config.reference)
    for _, part in frame.group_by(QUESTION, maintain_order=True):
        corrected = pl.Series("p holm", holm(part.filter(judged)[f"{metric} p"].to_list()), dtype=pl.Float64)
        missing = pl.lit(None, dtype=pl.Float64).alias("p holm")
        parts += [part.filter(judged).with_columns(corrected), part.filter(~judged).with_columns(missing)]
    sure = pl.col("p holm") < 1 - config.confidence
    return pl.concat(parts).with_columns(
        pl.when(pl.col("method") == config.reference)
        .then(pl.lit("reference"))
        .when(pl.col("paired seeds") == 0)
        .then(pl.lit("not compared"))
        .when(pl.col("paired seeds") == 1)
        .then(pl.lit("one seed, not judged"))
        .when(sure & (pl.col(f"{metric} low") > 0))
        .then(pl.lit("better"))
        .when(sure & (pl.col(f"{metric} high") < 0))
        .then(pl.lit("worse"))
        .otherwise(pl.lit("no difference shown"))
        .alias("verdict")
    )


def markdown(config: StudyConfig, frame: pl.DataFrame) -> str:
    """The `table` for reading, one section per data set, backend and ratio."""
    lines = [f"Metric of the verdict: {config.metric}@{config.evaluation.k}; intervals at {config.confidence:.0%}.", ""]
    if frame.is_empty():
        return "\n".join([*lines, "No cell has finished."])
    for key, part in frame.group_by(QUESTION, maintain_order=True):
        dataset, backend, ratio = key
        lines += [
            f"### {dataset}, {backend}, {float(str(ratio)):.2%} of the samples",
            "",
            "| method | surrogate | seeds | recall | ndcg | gain over reference (ndcg) | log-likelihood gain | p, Holm | "
            "verdict | selection s | tuning s | tokens | TFLOP |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        lines += [*(_line(row, config.metric) for row in part.iter_rows(named=True)), ""]
    return "\n".join(lines).replace("(ndcg)", f"({config.metric})")


def _line(row: dict[str, object], metric: str) -> str:
    compared = row["verdict"] not in ("reference", "not compared")
    cells_of = [
        row["method"],
        row["surrogate"],
        row["seeds"],
        f"{row['recall']:.4f}",
        f"{row['ndcg']:.4f}",
        _interval(row, metric) if compared else "—",
        _interval(row, "log_likelihood") if compared else "—",
        "—" if row["p holm"] is None else f"{row['p holm']:.3f}",
        row["verdict"],
        f"{row['selection_s']:.0f}",
        f"{row['tuning_s']:.0f}",
        f"{row['tokens']:.0f}",
        f"{float(str(row['flops'])) / 1e12:.2f}",
    ]
    return "| " + " | ".join(map(str, cells_of)) + " |"


def _interval(row: dict[str, object], metric: str) -> str:
    return f"{row[f'{metric} gain']:+.4f} [{row[f'{metric} low']:+.4f}, {row[f'{metric} high']:+.4f}]"
