"""Tables of a study: the gain of each method over the reference, its cost, and whether the seeds agree."""

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


def table(config: StudyConfig) -> pl.DataFrame:
    """One row per method, data set, backend, surrogate and ratio: means, difference to the reference, cost.

    `p holm` is corrected over all methods compared on one data set, backend and ratio. `comparison` says better or worse
    only where the interval of `config.metric` excludes zero and the corrected p is below 1 − confidence. One seed says nothing
    about others: such a method has an interval over users, and neither a p nor such a word.
    """
    members: dict[tuple[object, ...], Group] = {}
    for result in finished(config):
        members.setdefault(result.cell[:-1], Group(result.cell, {})).results[result.cell.seed] = result
    compared = list(members.values())
    references = {group.question: group for group in reversed(compared) if group.cell.method == config.reference}
    rows = [_row(config, group, references.get(group.question)) for group in compared]
    if not rows:
        return pl.DataFrame()
    frame = pl.DataFrame(rows, infer_schema_length=None)
    return _compared(config, frame).sort(*QUESTION, config.metric, descending=[False, False, False, True])


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


def _compared(config: StudyConfig, frame: pl.DataFrame) -> pl.DataFrame:
    metric, parts = config.metric, []
    judged = (pl.col("paired seeds") > 1) & (pl.col("method") != config.reference)
    for _, part in frame.group_by(QUESTION, maintain_order=True):
        corrected = pl.Series("p holm", holm(part.filter(judged)[f"{metric} p"].to_list()), dtype=pl.Float64)
        missing = pl.lit(None, dtype=pl.Float64).alias("p holm")
        parts += [part.filter(judged).with_columns(corrected), part.filter(~judged).with_columns(missing)]
    sure = pl.col("p holm") < 1 - config.confidence
    verdicts = [
        (pl.col("method") == config.reference, "reference"),
        (pl.col("paired seeds") == 0, "not compared"),
        (pl.col("paired seeds") == 1, "one seed, no decision"),
        (sure & (pl.col(f"{metric} low") > 0), "better"),
        (sure & (pl.col(f"{metric} high") < 0), "worse"),
        (pl.lit(True), "no difference shown"),
    ]
    verdict = pl.coalesce([pl.when(fits).then(pl.lit(words)) for fits, words in verdicts])
    return pl.concat(parts).with_columns(verdict.alias("comparison"))


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
        lines += [
            f"### {dataset}, {backend}, {float(str(ratio)):.2%} of the samples",
            "",
            "| method | surrogate | seeds | recall | ndcg | gain over reference (ndcg) | log-likelihood gain | p, Holm | "
            "comparison | selection s | tuning s | tokens | TFLOP |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        lines += [*(_line(row, config.metric) for row in part.iter_rows(named=True)), ""]
    return "\n".join(lines).replace("(ndcg)", f"({config.metric})")


def _line(row: dict[str, object], metric: str) -> str:
    compared = row["comparison"] not in ("reference", "not compared")
    accuracies = [f"{row[name]:.4f}" for name in ("recall", "ndcg")]
    gains = [_interval(row, name) if compared else "—" for name in (metric, "log_likelihood")]
    p = "—" if row["p holm"] is None else f"{row['p holm']:.3f}"
    costs = [f"{row[name]:.0f}" for name in ("selection_s", "tuning_s", "tokens")]
    names, teraflops = [row["method"], row["surrogate"], row["seeds"]], f"{float(str(row['flops'])) / 1e12:.2f}"
    return f"| {' | '.join(map(str, [*names, *accuracies, *gains, p, row['comparison'], *costs, teraflops]))} |"


def _interval(row: dict[str, object], metric: str) -> str:
    return f"{row[f'{metric} gain']:+.4f} [{row[f'{metric} low']:+.4f}, {row[f'{metric} high']:+.4f}]"
