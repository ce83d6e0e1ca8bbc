"""Reads raw files of interactions into rows that wait to land: checked, filtered, cut at the night's day, counted."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Literal

import polars as pl

from dealrec_core import duplicates, events, schema, sources
from dealrec_core.errors import DataError, SettingsError
from dealrec_core.raw.batch import Batch, Unreadable
from dealrec_core.sources import InteractionSource, RawFile
from dealrec_core.spill import BUCKETS, KEY, Spill

Partition = Literal["day", "month", "year"]
FILE_NUMBER = "\x00file"
HASH = "hash"
ORDER = [FILE_NUMBER, schema.ROW]


@dataclass
class Reading:
    """One raw file of a load, and what became of its rows so far."""

    file: RawFile
    sha256: str
    before: int | None
    """Transaction number of its last reading, None when this is the first."""
    rows: int = 0
    earlier: int = 0
    due: int = 0
    quarantined: int = 0
    filtered: int = 0
    postponed: int = 0
    bad: list[pl.DataFrame] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    is_broken: bool = False
    is_changing: bool = False
    """Someone wrote to it while it was read: it waits for the next night."""


@dataclass
class Load:
    """Files that land in one commit."""

    source: InteractionSource
    through: date
    partition: Partition
    spill: Spill
    readings: list[Reading] = field(default_factory=list)
    event_ids: list[pl.Series] = field(default_factory=list)
    """Hashes of the ids of the events that have one."""

    def read(self, file: RawFile, sha256: str, *, before: int | None) -> Reading:
        """Takes a file's rows in; a file that is broken as a whole becomes one bad row.

        Raises:
            ColumnMissing: a mapped column is not there.
            SettingsError: the filter makes no sense.
        """
        reading = Reading(file, sha256, before)
        self.readings.append(reading)
        constants = sources.folder_values(file.path)
        mapping: dict[str, str | None] = {name: getattr(self.source, name) for name in events.FIELDS}
        columns = [raw for raw in mapping.values() if raw is not None and raw not in constants]
        try:
            for batch in sources.batches(file.path, columns=columns, options=self.source):
                self._take(batch, reading, mapping, constants)
        except Unreadable as error:
            _break(reading, str(error))
        reading.is_changing = sources.stamp(file.path) != file.stamp
        return reading

    def give_up(self, reason: str) -> None:
        """Counts the file that was read last as one bad row."""
        _break(self.readings[-1], reason)

    def guard(self, max_bad_fraction: float) -> None:
        """Raises DataError when more than this share of the rows is bad."""
        rows = sum(each.rows for each in self.readings)
        bad = sum(each.quarantined for each in self.readings)
        if bad > max_bad_fraction * rows:
            worst = max(self.readings, key=lambda each: each.quarantined)
            reason, count = worst.reasons.most_common(1)[0]
            raise DataError(
                f"{bad:,} of {rows:,} rows are bad, more than sources.max_bad_fraction = {max_bad_fraction:g}; nothing was "
                f"taken. Most often: {reason} ({count:,} × in {worst.file.path}); correct the mapping or the file"
            )

    def _take(self, batch: Batch, reading: Reading, mapping: dict[str, str | None], constants: dict[str, str]) -> None:
        checked = events.check(batch, mapping, constants)
        good = self._weighted(checked.good)
        wanted = _filtered(good, self.source.filter)
        is_due = wanted[schema.TIMESTAMP] < _midnight(self.through.toordinal() + 1)
        reading.rows += batch.frame.height
        reading.postponed += wanted.height - int(is_due.sum())
        due = wanted.filter(is_due)
        filtered = checked.good.height - wanted.height
        if reading.before is None:
            reading.filtered += filtered
            reading.quarantined += checked.bad.height
            self._keep_bad(checked.bad, reading)
        else:
            fresh = due.filter(pl.col(schema.TIMESTAMP) >= _midnight(reading.before + 1))
            reading.earlier += filtered + checked.bad.height + due.height - fresh.height
            due = fresh
        reading.due += due.height
        if due.height:
            self._spill(due)

    def _keep_bad(self, bad: pl.DataFrame, reading: Reading) -> None:
        if bad.height:
            reading.bad.append(bad)
            reading.reasons.update(bad[schema.REASON].to_list())

    def _spill(self, due: pl.DataFrame) -> None:
        rows = due.with_columns(
            duplicates.identity_hash().alias(HASH),
            pl.lit(len(self.readings) - 1, dtype=pl.UInt32).alias(FILE_NUMBER),
            period_number(pl.col(schema.TIMESTAMP), self.partition).alias(KEY),
        )
        if self.source.event_id is not None:
            self.event_ids.append(rows[schema.EVENT_ID].drop_nulls().hash())
        self.spill.add(rows.with_columns(pl.col(KEY) * BUCKETS + (pl.col(HASH) % BUCKETS).cast(pl.Int64)))

    def _weighted(self, good: pl.DataFrame) -> pl.DataFrame:
        weights = self.source.event_weights
        if weights is None:
            return good
        weight = pl.col(schema.EVENT_TYPE).replace_strict(weights, default=None, return_dtype=pl.Float64)
        return good.with_columns(weight.alias(schema.RATING)).filter(pl.col(schema.RATING).is_not_null())


def period_number(time: pl.Expr, partition: Partition) -> pl.Expr:
    """The day, month or year of a time as a whole number that grows with time (Int64)."""
    if partition == "day":
        return time.dt.date().to_physical().cast(pl.Int64)
    year = time.dt.year().cast(pl.Int64)
    return year if partition == "year" else year * 12 + time.dt.month().cast(pl.Int64) - 1


def period_name(number: int, partition: Partition) -> str:
    """2026-01-31, 2026-01 or 2026."""
    if partition == "day":
        return (date(1970, 1, 1) + timedelta(days=number)).isoformat()
    return str(number) if partition == "year" else f"{number // 12}-{number % 12 + 1:02}"


def _break(reading: Reading, reason: str) -> None:
    """Makes a file one bad row, whatever was read of it."""
    reading.rows = reading.quarantined = 1
    reading.earlier = reading.due = reading.filtered = reading.postponed = 0
    bad = {schema.ROW: 0, schema.COLUMN: "", schema.REASON: reason, schema.RAW: ""}
    reading.bad = [pl.DataFrame([bad], schema=events.BAD_ROWS)]
    reading.reasons = Counter([reason])
    reading.is_broken = True


def _filtered(frame: pl.DataFrame, condition: str | None) -> pl.DataFrame:
    if condition is None:
        return frame
    try:
        return frame.filter(pl.sql_expr(condition))
    except pl.exceptions.PolarsError as error:
        raise SettingsError(
            f"sources.interactions.filter '{condition}': {str(error).splitlines()[0]}; "
            f"it may use {', '.join(events.FIELDS[:5])}"
        ) from error


def _midnight(ordinal: int) -> datetime:
    return datetime.combine(date.fromordinal(ordinal), datetime.min.time(), UTC)
