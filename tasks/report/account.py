"""Reads from the lake what the report of a night tells: its records, its rows, and the nights before it."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl

from dealrec_core import schema
from dealrec_core.evaluation import comparison
from dealrec_core.evaluation.comparison import Difference
from dealrec_core.lake.nights import Fact, Night, Snapshot
from tasks.report.parts import Columns, Lines, Table

BINS = 24
NIGHTS_SHOWN = 30


@dataclass(frozen=True)
class Account:
    """A night, and its day and those of the nights opened before it, oldest first."""

    night: Night
    lately: list[tuple[str, Night]]
    _tables: dict[str, pl.DataFrame] = field(default_factory=dict, compare=False)

    def rows(self, stage: str) -> pl.DataFrame:
        """The rows of a finished stage's table that are about this night; they are read once."""
        if stage not in self._tables:
            record = self.night.need(stage)
            table = self.night.scan(str(record.table), record.version)
            self._tables[stage] = table.filter(pl.col(schema.NIGHT) == self.night.name).collect()
        return self._tables[stage]

    def records(self, stage: str) -> list[tuple[str, Snapshot]]:
        """The record of a stage, night by night, of the nights that have one."""
        records = ((label, night.find(stage)) for label, night in self.lately)
        return [(label, record) for label, record in records if record is not None]

    def lines(self, title: str, stage: str, facts: dict[str, str]) -> Lines:
        """One line for each of these facts of a stage, by the names on the chart, night by night."""
        records = self.records(stage)
        points = {name: [number(record.facts.get(fact)) for _, record in records] for name, fact in facts.items()}
        shown = {name: values for name, values in points.items() if any(value is not None for value in values)}
        return Lines(title, [label for label, _ in records], shown)

    @cached_property
    def values(self) -> dict[str, np.ndarray]:
        """The gate's metric of every held-out user, by the name of the recommender; users are in one order."""
        frame, metric = self.rows("evaluation").sort(schema.USER_ID), self.night.config.gate.metric
        parts = frame.partition_by("recommender", as_dict=True, maintain_order=True)
        return {str(name): part[metric].to_numpy() for (name,), part in parts.items()}

    def difference(self, first: np.ndarray, second: np.ndarray) -> Difference:
        """The mean of first − second over users, with its 95% interval."""
        config = self.night.config
        return comparison.difference(first, second, resamples=config.gate.resamples, seed=config.run.seed)


def account(night: Night) -> Account:
    """The account of a night, with at most `NIGHTS_SHOWN` nights up to it."""
    return Account(night, [(str(shown.day), shown) for shown in [*night.earlier, night][-NIGHTS_SHOWN:]])


def facts(snapshot: Snapshot) -> Table:
    """Returns all figures of a stage's record, as a folded table."""
    rows = [[name, shown(value)] for name, value in snapshot.facts.items()]
    return Table(["", ""], rows, f"All figures of the stage {snapshot.stage.replace('_', ' ')}")


def shown(value: Fact) -> str:
    """A fact as a person reads it."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:,}" if isinstance(value, int) else str(value)


def number(value: Fact) -> float | None:
    """The fact as a number, None where it is something else."""
    return float(value) if isinstance(value, int | float) else None


def duration(seconds: float) -> str:
    """A time as a person says it.

    >>> duration(7.25), duration(133), duration(7_530)
    ('7.2 s', '2 min 13 s', '2 h 6 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {round((seconds % 3600) / 60)} min"


def distribution(title: str, series: dict[str, pl.Series]) -> Columns:
    """Bins between the 1st and the 99th percentile of the first series; what lies outside counts in the outer bins."""
    first = next(iter(series.values())).drop_nulls().to_numpy()
    if not len(first):
        return Columns(title, [0.0, 1.0], {name: [0.0] for name in series})
    low, high = np.quantile(first, [0.01, 0.99])
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
    counts = {
        name: np.histogram(np.clip(values.drop_nulls().to_numpy(), edges[0], edges[-1]), edges)[0].tolist()
        for name, values in series.items()
    }
    return Columns(title, edges.tolist(), counts)
