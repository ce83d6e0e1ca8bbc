"""Tables of a study: the gain of each method over the reference, its cost, and what gain could have been seen at all."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from dealrec_core.evaluation.comparison import holm
from dealrec_core.study.backends import LIKELIHOOD, cutoffs
from dealrec_core.study.config import Cell, StudyConfig, cells
from dealrec_core.study.gains import Gain, gain
from dealrec_core.study.results import Result, find

QUESTION = ["dataset", "backend", "ratio"]
COSTS = ("selection_wall_s", "selection_cpu_s", "tuning_wall_s", "tuning_cpu_s", "tokens", "flops")
REFERENCE, PRIMARY = "reference", "primary"
TARGETS = (0.05, 0.1, 0.2)
"""Gains, as shares of the reference, that the power table is about."""


@dataclass(frozen=True)
class Group:
    """All seeds of one method on one data set, backend, surrogate and ratio."""

    cell: Cell
    """The cell of the first seed."""
    results: list[Result]

    @property
    def question(self) -> tuple[str, str, float]:
        """The data set, backend and ratio, on which methods are compared."""
        return self.cell.dataset, self.cell.backend, self.cell.ratio

    def mean(self, fact: str) -> float:
        """Mean of a fact over the seeds."""
        return float(np.mean([result.facts[fact] for result in self.results]))

    def values(self, metric: str) -> np.ndarray:
        """One metric, (S, U)."""
        return np.stack([result.values(metric).to_numpy() for result in self.results])


def finished(config: StudyConfig) -> list[Result]:
    """The results of all cells that have finished, by seed."""
    results = (find(config, cell) for cell in cells(config))
    return [result for result in results if result is not None]


def metrics(config: StudyConfig) -> list[str]:
    """The metric that decides, those that confirm, and the log-likelihood, which describes."""
    deciding, *confirming = cutoffs(config)
    names = [
        f"{config.metric}@{deciding}",
        *(f"{name}@{length}" for length in confirming for name in ("ndcg", "recall")),
    ]
    return [*dict.fromkeys([*names, f"recall@{deciding}"]), LIKELIHOOD]


def table(config: StudyConfig) -> pl.DataFrame:
    """One row per method, data set, backend, surrogate and ratio: means, gain over the reference, cost.

    The reference is pooled over all its seeds. The primary question's p stands as it is; `p holm` of every other method is
    corrected over all others that are compared on one data set, backend and ratio. `comparison` says better or worse only
    where the interval of the deciding metric excludes zero and that p is below 1 − confidence. One seed says nothing about
    others: such a method has an interval over users, and neither a p nor such a word.
    """
    rows = [_row(config, group, reference) for group, reference in _compared(config)]
    if not rows:
        return pl.DataFrame()
    frame = _decided(config, pl.DataFrame(rows, infer_schema_length=None))
    falling = [False, False, False, True, True]
    return frame.sort(*QUESTION, PRIMARY, metrics(config)[0], descending=falling)


def _groups(config: StudyConfig) -> list[Group]:
    members: dict[tuple[object, ...], Group] = {}
    for result in finished(config):
        members.setdefault(result.cell[:-1], Group(result.cell, [])).results.append(result)
    return list(members.values())


def _compared(config: StudyConfig) -> Iterator[tuple[Group, Group | None]]:
    """Every group with the reference of its question."""
    groups = _groups(config)
    references = {group.question: group for group in reversed(groups) if group.cell.method == config.reference}
    yield from ((group, references.get(group.question)) for group in groups)


def _is_primary(config: StudyConfig, cell: Cell) -> bool:
    asked = config.primary.get(cell.backend)
    return asked is not None and (asked.dataset, asked.method, asked.ratio) == (cell.dataset, cell.method, cell.ratio)


def _row(config: StudyConfig, group: Group, reference: Group | None) -> dict[str, object]:
    row: dict[str, object] = dict(zip(Cell._fields[:-1], group.cell, strict=False))
    row |= {PRIMARY: _is_primary(config, group.cell), "seeds": len(group.results), "chosen": int(group.mean("chosen"))}
    row |= {"reference seeds": len(reference.results) if reference and reference is not group else 0}
    for metric in metrics(config):
        row[metric] = group.mean(metric)
        missing = (float("nan"),) * 4
        if reference is not None and reference is not group:
            found = gain(group.values(metric), reference.values(metric), confidence=config.confidence)
            missing = (found.mean, found.low, found.high, found.p)
        row |= {f"{metric} {name}": value for name, value in zip(("gain", "low", "high", "p"), missing, strict=True)}
    devices = ", ".join(sorted({str(result.facts["device"]) for result in group.results}))
    costs = {name: group.mean(name) for name in COSTS}
    clock = "wall" if "cuda" in devices else "cpu"  # a GPU's work is no CPU time
    return row | {"device": devices, **costs, "total_s": costs[f"selection_{clock}_s"] + costs[f"tuning_{clock}_s"]}


def _decided(config: StudyConfig, frame: pl.DataFrame) -> pl.DataFrame:
    metric, parts = metrics(config)[0], []
    judged = (pl.col("reference seeds") > 1) & (pl.col("seeds") > 1)
    for _, part in frame.group_by(QUESTION, maintain_order=True):
        for primary, rest in part.group_by(PRIMARY, maintain_order=True):
            several = rest.filter(judged)
            values = several[f"{metric} p"].to_list()
            corrected = pl.Series("p holm", values if primary[0] else holm(values), dtype=pl.Float64)
            missing = pl.lit(None, dtype=pl.Float64).alias("p holm")
            parts += [several.with_columns(corrected), rest.filter(~judged).with_columns(missing)]
    sure = pl.col("p holm") < 1 - config.confidence
    words = [
        (pl.col("method") == config.reference, REFERENCE),
        (pl.col("reference seeds") == 0, "not compared"),
        (~judged, "one seed, no decision"),
        (sure & (pl.col(f"{metric} low") > 0), "better"),
        (sure & (pl.col(f"{metric} high") < 0), "worse"),
        (pl.lit(True), "no difference shown"),
    ]
    word = pl.coalesce([pl.when(fits).then(pl.lit(text)) for fits, text in words])
    return pl.concat(parts).with_columns(word.alias("comparison"))


def power(config: StudyConfig) -> pl.DataFrame:
    """One row per method with several seeds: the smallest gain that is found, and what other gains would need.

    `seeds for 5%` are the seeds of method and reference each, on the users at hand; `users for 5%` go with the seeds at hand; null
    where none suffice.
    """
    rows, metric = [], metrics(config)[0]
    for group, reference in _compared(config):
        if reference is None or group is reference or min(len(group.results), len(reference.results)) < 2:
            continue
        found = gain(group.values(metric), reference.values(metric), confidence=config.confidence)
        rows.append(_power(config, group, found, level=reference.mean(metric)))
    return pl.DataFrame(rows, infer_schema_length=None)


def _power(config: StudyConfig, group: Group, found: Gain, *, level: float) -> dict[str, object]:
    sure, parts = config.confidence, found.parts
    row: dict[str, object] = dict(zip(Cell._fields[:-1], group.cell, strict=False))
    row |= {"seeds": parts.seeds[0], "reference seeds": parts.seeds[1], "users": parts.users, "error": found.error}
    smallest = parts.smallest(confidence=sure)
    row |= {"smallest": smallest, "smallest share": smallest / level if level else float("nan")}
    for share in TARGETS:
        target = share * level
        row[f"seeds for {share:.0%}"] = parts.seeds_for(target, confidence=sure) if target else None
        row[f"users for {share:.0%}"] = parts.users_for(target, confidence=sure) if target else None
    return row
