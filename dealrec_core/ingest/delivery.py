"""Reads raw files of interactions into rows that wait for their commit: checked, filtered, cut at the night's day, counted."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Literal

import polars as pl

from dealrec_core import schema
from dealrec_core.errors import DataError, SettingsError
from dealrec_core.ingest import duplicates, events, sources
from dealrec_core.ingest.raw.batch import Batch, ColumnMissing, Unreadable
from dealrec_core.ingest.sources import RawFile
from dealrec_core.ingest.spill import HASH, KEY, Spill
from dealrec_core.lake import parallel
from dealrec_core.lake.erased import NOBODY, Erased
from dealrec_core.settings.sources import InteractionSource

Partition = Literal["day", "month", "year"]
FILE_NUMBER = "\x00file"
ORDER = [FILE_NUMBER, schema.ROW]
THREADS = 2
"""Threads that check records while the next ones are read; polars has its own threads below."""


@dataclass
class Reading:
    """One raw file of a delivery, and what became of its rows so far."""

    file: RawFile
    sha256: str
    before: int | None
    """Transaction number of the file's last reading, None when this is the first."""
    counts: Counter[str] = field(default_factory=Counter)
    """Rows, and how many of them are earlier, due, quarantined, filtered or postponed."""
    bad: list[pl.DataFrame] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    is_broken: bool = False
    missing: ColumnMissing | None = None
    is_changing: bool = False
    """Whether the file was written to while it was read: it waits for the next night."""
    is_replay: bool = False
    """Whether only rows from quarantine are read again."""

    @property
    def transaction(self) -> str:
        """Transaction id of this reading in `interactions`."""
        return f"replay/{self.sha256}" if self.is_replay else self.sha256


@dataclass
class Delivery:
    """Files whose events are committed together."""

    source: InteractionSource
    through: date
    partition: Partition
    spill: Spill
    erased: Erased = NOBODY
    readings: list[Reading] = field(default_factory=list)
    event_ids: list[pl.Series] = field(default_factory=list)
    """Hashes of the ids of the events that have one."""

    def read(self, file: RawFile, sha256: str, *, before: int | None, only: pl.Series | None = None) -> Reading:
        """Adds a file's rows, and returns the file's counts; a file that is broken as a whole becomes one bad row.

        only: numbers of the rows in quarantine, where these alone are read again: all rows if the file was broken as a whole (0).

        Raises:
            ColumnMissing: a mapped column is not there.
            SettingsError: the filter makes no sense.
        """
        reading = Reading(file, sha256, before, is_replay=only is not None)
        self.readings.append(reading)
        ingested_through = None if reading.is_replay else before
        constants = sources.folder_values(file.path)
        fates_of = partial(
            self._sort_out, constants=constants, number=len(self.readings) - 1, ingested_through=ingested_through
        )
        try:
            batches = sources.batches(file.path, columns=raw_columns(self.source, constants), options=self.source)
            if only is not None and not (only == 0).any():
                batches = (batch.only(only) for batch in batches)
            for fates in parallel.in_order(fates_of, batches, threads=THREADS):
                self._count(fates, reading)
        except Unreadable as error:
            _break(reading, str(error))
        reading.is_changing = sources.stamp(file.path) != file.stamp
        return reading

    def merge(self, shard: "Shard") -> None:
        """Merges a shard that another process has read."""
        first = len(self.readings)
        self.readings += shard.readings
        self.event_ids += shard.event_ids
        for rows in shard.rows:
            self.spill.add(rows.with_columns(pl.col(FILE_NUMBER) + pl.lit(first, dtype=pl.UInt32)))

    def give_up(self, error: ColumnMissing) -> None:
        """Counts the file that was read last as one bad row."""
        _break(self.readings[-1], str(error))
        self.readings[-1].missing = error

    def guard(self, max_bad_fraction: float) -> None:
        """Raises DataError when more than this share of the rows is bad."""
        rows = sum(reading.counts["rows"] for reading in self.readings)
        bad = sum(reading.counts["quarantined"] for reading in self.readings)
        if bad > max_bad_fraction * rows:
            worst = max(self.readings, key=lambda reading: reading.counts["quarantined"])
            reason, count = worst.reasons.most_common(1)[0]
            raise DataError(
                f"{bad:,} of {rows:,} rows are bad, more than sources.max_bad_fraction = {max_bad_fraction:g}; nothing was "
                f"written. Most often: {reason} ({count:,} × in {worst.file.path}); correct the mapping or the file"
            )

    def _sort_out(self, batch: Batch, constants: dict[str, str], number: int, ingested_through: int | None) -> "_Fates":
        """Counts what becomes of each record, and adds the rows that are due to the spill."""
        good, filtered, bad = sort_out(batch, self.source, constants)
        others = self.erased.without(good)
        filtered += good.height - others.height
        due = _before(others, self.through.toordinal() + 1)
        postponed, earlier = others.height - due.height, 0
        if ingested_through is not None:
            fresh = due.filter(pl.col(schema.TIMESTAMP) >= _midnight(ingested_through + 1))
            earlier = filtered + bad.height + due.height - fresh.height
            filtered, bad, due = 0, bad.clear(), fresh
        ids = None
        if due.height:
            self.spill.add(_keyed(due, number, self.partition))
            if self.source.event_id is not None:
                ids = due[schema.EVENT_ID].drop_nulls().hash()
        counts = {"rows": batch.frame.height, "earlier": earlier, "due": due.height, "filtered": filtered}
        return _Fates(counts | {"postponed": postponed, "quarantined": bad.height}, bad, ids)

    def _count(self, fates: "_Fates", reading: Reading) -> None:
        reading.counts.update(fates.counts)
        if fates.bad.height:
            reading.bad.append(fates.bad)
            reading.reasons.update(fates.bad[schema.REASON].to_list())
        if fates.event_ids is not None:
            self.event_ids.append(fates.event_ids)


@dataclass(frozen=True)
class Shard:
    """The contents of a small delivery, which are sent and merged into another delivery."""

    readings: list[Reading]
    rows: list[pl.DataFrame]
    event_ids: list[pl.Series]


def raw_columns(source: InteractionSource, constants: dict[str, str]) -> list[str]:
    """Returns the mapped columns that a file itself must have."""
    return [raw for name in events.FIELDS if (raw := getattr(source, name)) is not None and raw not in constants]


def sort_out(
    batch: Batch, source: InteractionSource, constants: dict[str, str]
) -> tuple[pl.DataFrame, int, pl.DataFrame]:
    """Returns good events, how many others the filter or the weights turn down, and bad records with their reasons."""
    checked, bad = events.check(batch, {name: getattr(source, name) for name in events.FIELDS}, constants)
    good = _filtered(_weighted(checked, source.event_weights), source.filter)
    return good, checked.height - good.height, bad


def _weighted(rows: pl.DataFrame, weights: dict[str, float] | None) -> pl.DataFrame:
    if weights is None:
        return rows
    weight = pl.col(schema.EVENT_TYPE).replace_strict(weights, default=None, return_dtype=pl.Float64)
    return rows.with_columns(weight.alias(schema.RATING)).filter(pl.col(schema.RATING).is_not_null())


@dataclass(frozen=True)
class _Fates:
    """How many records of a batch became what, and the bad ones."""

    counts: dict[str, int]
    bad: pl.DataFrame
    event_ids: pl.Series | None


def period_number(time: pl.Expr, partition: Partition) -> pl.Expr:
    """Returns the day, month or year of a time as a whole number that grows with time (Int64)."""
    if partition == "day":
        return time.dt.date().to_physical().cast(pl.Int64)
    year = time.dt.year().cast(pl.Int64)
    return year if partition == "year" else year * 12 + time.dt.month().cast(pl.Int64) - 1


def period_name(number: int, partition: Partition) -> str:
    """Returns the text of a period: 2026-01-31, 2026-01 or 2026."""
    if partition == "day":
        return (date(1970, 1, 1) + timedelta(days=number)).isoformat()
    return str(number) if partition == "year" else f"{number // 12}-{number % 12 + 1:02}"


def _break(reading: Reading, reason: str) -> None:
    """Counts a file as one bad row, whatever was read of it."""
    reading.counts = Counter(rows=1, quarantined=1)
    bad = {schema.ROW: 0, schema.COLUMN: "", schema.REASON: reason, schema.RAW: ""}
    reading.bad = [pl.DataFrame([bad], schema=events.BAD_ROWS)]
    reading.reasons = Counter([reason])
    reading.is_broken = True


def _keyed(due: pl.DataFrame, number: int, partition: Partition) -> pl.DataFrame:
    return due.with_columns(
        duplicates.identity_hash().alias(HASH),
        pl.lit(number, dtype=pl.UInt32).alias(FILE_NUMBER),
        period_number(pl.col(schema.TIMESTAMP), partition).alias(KEY),
    )


def _before(rows: pl.DataFrame, ordinal: int) -> pl.DataFrame:
    is_before = rows[schema.TIMESTAMP] < _midnight(ordinal)
    return rows if is_before.all() else rows.filter(is_before)


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
