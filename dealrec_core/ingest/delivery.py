"""Reads raw files of interactions into rows that wait for their commit: checked, filtered, cut at the night's day, counted."""

from collections import Counter
from collections.abc import Callable, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Literal

import polars as pl

from dealrec_core import schema
from dealrec_core.errors import DataError, SettingsError
from dealrec_core.ingest import duplicates, events, sources
from dealrec_core.ingest.raw.batch import HASH, KEY, ROW, Batch, ColumnMissing, Unreadable
from dealrec_core.ingest.sources import RawFile
from dealrec_core.lake import parallel
from dealrec_core.lake.erased import NOBODY, Erased
from dealrec_core.settings.sources import InteractionSource

if TYPE_CHECKING:  # numpy takes a quarter of a second to import, and a look at a log needs none
    from dealrec_core.ingest.spill import Spill

Partition = Literal["day", "month", "year"]
FILE_NUMBER = "\x00file"
ORDER = [FILE_NUMBER, schema.ROW]
BYTES_A_ROW = 100
"""Bytes that a row of a file is taken to have where no other file shows it."""
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
    """How many rows are bad for each kind of reason: its text up to the value that it names."""
    examples: dict[str, str] = field(default_factory=dict)
    """The first whole reason of each kind."""
    event_types: set[str] = field(default_factory=set)
    """The types of events that occur, if event_weights names any."""
    is_broken: bool = False
    is_counted: bool = True
    """Whether the number of rows of a broken file is known; else it is estimated from the bytes of others."""
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
    spill: "Spill"
    erased: Erased = NOBODY
    readings: list[Reading] = field(default_factory=list)
    event_ids: list[pl.Series] = field(default_factory=list)
    """Hashes of the ids of the events that have one."""
    replaced: dict[str, list[str]] = field(default_factory=dict)
    """For files that are read again: by the hash of each, the hashes of the contents whose rows go in the same commit."""

    def read(self, file: RawFile, sha256: str, *, before: int | None, only: pl.Series | None = None) -> Reading:
        """Adds a file's rows, and returns the file's counts; all rows of a file that is broken as a whole are bad.

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
            _break(reading, str(error), self.source)
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
        """Counts all rows of the file that was read last as bad."""
        _break(self.readings[-1], str(error), self.source)
        self.readings[-1].missing = error

    def estimate(self) -> None:
        """Gives broken files whose rows cannot be counted as many rows as the other files have for as many bytes."""
        counted = [reading for reading in self.readings if reading.is_counted and reading.counts["rows"]]
        size = sum(reading.file.size_bytes for reading in counted)
        a_byte = sum(reading.counts["rows"] for reading in counted) / size if size else 1 / BYTES_A_ROW
        for reading in self.readings:
            if not reading.is_counted:
                rows = max(round(reading.file.size_bytes * a_byte), 1)
                reading.counts, reading.reasons = Counter(rows=rows, quarantined=rows), Counter({"": rows})

    def guard(self, max_bad_fraction: float, warnings: list[str], *, is_first: bool = False) -> None:
        """Raises DataError when more than this share of the rows is bad, or when the first rows of a lake are all turned down.

        warnings: as `warnings` returns them.
        is_first: whether the lake has no events yet.
        """
        counts = sum((reading.counts for reading in self.readings), Counter[str]())
        rows, bad = counts["rows"], counts["quarantined"]
        if bad > max_bad_fraction * rows:
            worst = max(self.readings, key=lambda reading: reading.counts["quarantined"])
            kind, count = worst.reasons.most_common(1)[0]
            raise DataError(
                f"{bad:,} of {rows:,} rows are bad, more than sources.max_bad_fraction = {max_bad_fraction:g}; nothing was "
                f"written. Most often: {worst.examples.get(kind, kind)} ({count:,} × in {worst.file.path}); correct "
                "[sources.interactions] of the settings or the file"
            )
        if is_first and rows and counts["filtered"] + bad == rows:
            raise DataError(f"{warnings[0]}; nothing was written. Correct the setting and start again")

    def warnings(self, earlier_types: Callable[[], Set[str]]) -> list[str]:
        """Returns what is odd about the rows: a filter that takes nothing, types of events that never occur.

        earlier_types: returns the types of events that the lake has; it is called where one does not occur in the delivery.
        """
        counts = sum((reading.counts for reading in self.readings), Counter[str]())
        first = any(reading.before is None for reading in self.readings)
        seen = set().union(*(reading.event_types for reading in self.readings))
        if set(self.source.event_weights or {}) - seen and counts["filtered"] < counts["rows"] - counts["quarantined"]:
            seen |= earlier_types()
        return (
            filter_warnings(self.source, counts["rows"] - counts["quarantined"], counts["filtered"], seen)
            if first
            else []
        )

    def _sort_out(self, batch: Batch, constants: dict[str, str], number: int, ingested_through: int | None) -> "_Fates":
        """Counts what becomes of each record, and adds the rows that are due to the spill."""
        if batch.is_open and not self.readings[number].is_replay:
            rest, last = batch.only(batch.frame[ROW][:-1]), batch.only(batch.frame[ROW][-1:])
            fates = self._fates(rest, constants, number, ingested_through)
            if self.readings[number].before is None:  # the last line may still grow: it waits for the next night
                return replace(
                    fates,
                    counts=fates.counts | {"rows": batch.frame.height, "postponed": fates.counts["postponed"] + 1},
                )
            return fates.and_also(self._fates(last, constants, number, None))
        return self._fates(batch, constants, number, ingested_through)

    def _fates(self, batch: Batch, constants: dict[str, str], number: int, ingested_through: int | None) -> "_Fates":
        checked = sort_out(batch, self.source, constants)
        good, filtered, bad = checked.good, checked.filtered, checked.bad
        others = self.erased.without(good)
        filtered += good.height - others.height
        due = _before(others, self.through.toordinal() + 1)
        postponed, earlier = others.height - due.height, 0
        if ingested_through is not None:
            fresh = due.filter(pl.col(schema.TIMESTAMP) >= _midnight(ingested_through + 1))
            earlier = filtered + bad.height + due.height - fresh.height
            filtered, bad, due = 0, bad.clear(), fresh
        event_ids = None
        if due.height:
            self.spill.add(_keyed(due, number, self.partition))
            if self.source.event_id is not None:
                event_ids = due[schema.EVENT_ID].drop_nulls().hash()
        counts = {"rows": batch.frame.height, "earlier": earlier, "due": due.height, "filtered": filtered}
        counts |= {"postponed": postponed, "quarantined": bad.height}
        return _Fates(
            counts, [bad] if bad.height else [], [] if event_ids is None else [event_ids], checked.event_types
        )

    def _count(self, fates: "_Fates", reading: Reading) -> None:
        reading.counts.update(fates.counts)
        reading.event_types |= fates.event_types
        for bad in fates.bad:
            reading.bad.append(bad)
            for reason, count in bad[schema.REASON].value_counts(sort=True).iter_rows():
                kind = reason.split(" '")[0]
                reading.reasons[kind] += count
                reading.examples.setdefault(kind, reason)
        self.event_ids += fates.event_ids


@dataclass(frozen=True)
class Shard:
    """The contents of a small delivery, which are sent and merged into another delivery."""

    readings: list[Reading]
    rows: list[pl.DataFrame]
    event_ids: list[pl.Series]


def raw_columns(source: InteractionSource, constants: dict[str, str]) -> list[str]:
    """Returns the mapped columns that a file itself must have."""
    return [raw for name in events.FIELDS if (raw := getattr(source, name)) is not None and raw not in constants]


@dataclass(frozen=True)
class Checked:
    """The records of a batch: good events, how many others the filter or the weights turn down, and bad records."""

    good: pl.DataFrame
    filtered: int
    bad: pl.DataFrame
    event_types: set[str]
    """The types that occur, if event_weights names any."""


def sort_out(batch: Batch, source: InteractionSource, constants: dict[str, str]) -> Checked:
    """Returns what the records of a batch are worth."""
    checked, bad = events.check(batch, source, constants)
    good = _filtered(_weighted(checked, source.event_weights), source.filter)
    types = set(checked[schema.EVENT_TYPE].unique()) if source.event_weights is not None else set()
    return Checked(good, checked.height - good.height, bad, types)


def filter_warnings(source: InteractionSource, rows: int, filtered: int, event_types: set[str]) -> list[str]:
    """Returns a sentence for each thing that is odd about what the filter and the weights take of `rows` readable rows."""
    found = []
    if rows and rows == filtered:
        condition = f"filter = '{source.filter}'" if source.filter is not None else "event_weights"
        occurring = f"; the types are {', '.join(sorted(event_types)[:10])}" if event_types else ""
        found.append(f"sources.interactions.{condition} turns down all {rows:,} rows{occurring}")
    missing = sorted(set(source.event_weights or {}) - event_types)
    if rows and missing and not found:
        names = ", ".join(f"'{name}'" for name in missing)
        found.append(
            f"sources.interactions.event_weights names {names}, which no row has; the types are {', '.join(sorted(event_types)[:10])}"
        )
    return found


def _weighted(rows: pl.DataFrame, weights: dict[str, float] | None) -> pl.DataFrame:
    if weights is None:
        return rows
    weight = pl.col(schema.EVENT_TYPE).replace_strict(weights, default=None, return_dtype=pl.Float64)
    return rows.with_columns(weight.alias(schema.RATING)).filter(pl.col(schema.RATING).is_not_null())


@dataclass(frozen=True)
class _Fates:
    """How many records of a batch became what, and the bad ones."""

    counts: dict[str, int]
    bad: list[pl.DataFrame]
    event_ids: list[pl.Series]
    event_types: set[str]

    def and_also(self, others: "_Fates") -> "_Fates":
        """Returns the fates of both."""
        counts = {name: count + others.counts[name] for name, count in self.counts.items()}
        types = self.event_types | others.event_types
        return _Fates(counts, self.bad + others.bad, self.event_ids + others.event_ids, types)


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


def _break(reading: Reading, reason: str, source: InteractionSource) -> None:
    """Counts all rows of a file as bad, whatever was read of it; quarantine gets one row for them."""
    rows = sources.count_rows(reading.file.path, source)
    reading.is_counted = rows is not None
    reading.counts = Counter(rows=rows or 1, quarantined=rows or 1)
    bad = {schema.ROW: 0, schema.COLUMN: "", schema.REASON: reason, schema.RAW: ""}
    reading.bad = [pl.DataFrame([bad], schema=events.BAD_ROWS)]
    reading.reasons, reading.examples = Counter({"": rows or 1}), {"": reason}
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
