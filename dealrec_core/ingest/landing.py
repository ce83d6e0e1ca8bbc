"""Brings a load into the lake: its bad rows first, then its new events and its word in one commit, then the ledger."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import polars as pl

from dealrec_core import schema
from dealrec_core.errors import SettingsError
from dealrec_core.ingest import duplicates
from dealrec_core.ingest.load import FILE_NUMBER, ORDER, THREADS, Load, Partition, Reading, period_name
from dealrec_core.ingest.spill import HASH, KEY
from dealrec_core.lake import Lake, ledger, parallel
from dealrec_core.lake.draft import Draft, change

FINISHED = 2**40
"""Transaction number of a file of which no row is postponed; any day's ordinal is smaller."""


def land(lake: Lake, load: Load) -> list[ledger.Row]:
    """Commits a load and returns its rows of `files`; when a racing ingest was faster, looks again at what is new.

    Raises:
        LakeError: others were faster too many times.
        SettingsError: the table is partitioned in another way.
    """
    unchanged = [reading for reading in load.readings if not reading.is_changing]
    bad = [
        (reading.sha256, reading.file.path, pl.concat(reading.bad))
        for reading in unchanged
        if reading.bad and not reading.is_replay
    ]
    ledger.quarantine(lake, bad)
    rows = change(lake, "interactions", partial(_commit, load), schema=schema.INTERACTIONS, partition=schema.PERIOD)
    ledger.write(lake, rows)
    return rows


def _check_partition(draft: Draft, wanted: Partition) -> None:
    """Periods of different lengths in one table would not sort by time."""
    letters = {"day": 10, "month": 7, "year": 4}
    for period in draft.paths_by_partition():
        if len(period) != letters[wanted]:
            there = next((name for name, count in letters.items() if count == len(period)), "something else")
            raise SettingsError(
                f"lake.partition is '{wanted}', but '{draft.table}' is partitioned by {there} (it has {period}); "
                f"set lake.partition = '{there}' or begin another lake"
            )


def _commit(load: Load, draft: Draft) -> list[ledger.Row]:
    _check_partition(draft, load.partition)
    landing = {
        number: reading
        for number, reading in enumerate(load.readings)
        if not reading.is_changing and draft.recorded(reading.transaction) == reading.before
    }
    if not landing:
        return []
    inserted = _write(draft, load, [number for number, each in landing.items() if not each.is_broken])
    rows = [_book(reading, load, inserted.get(number, 0)) for number, reading in landing.items()]
    transactions = {reading.transaction: row["number"] for reading, row in zip(landing.values(), rows, strict=True)}
    # A row from quarantine that is later than the day has a later night read its file again.
    again = [each.sha256 for each in landing.values() if each.is_replay and each.postponed]
    draft.commit(transactions | dict.fromkeys(again, load.through.toordinal()), ledger.note(rows))
    return rows


def _book(reading: Reading, load: Load, inserted: int) -> ledger.Row:
    return {
        schema.FILE: reading.sha256,
        "path": reading.file.path,
        "stamp": reading.file.stamp,
        "kind": "replay" if reading.is_replay else "interactions",
        "through": load.through.isoformat(),
        "rows": reading.rows,
        "earlier": reading.earlier,
        "inserted": inserted,
        "duplicates": reading.due - inserted,
        "quarantined": reading.quarantined,
        "filtered": reading.filtered,
        "postponed": reading.postponed,
        "number": _number(reading, load),
    }


def _number(reading: Reading, load: Load) -> int:
    if reading.is_replay:
        return (reading.before or 0) + 1
    return load.through.toordinal() if reading.postponed else FINISHED


def _write(draft: Draft, load: Load, numbers: list[int]) -> dict[int, int]:
    """Writes the new events of these files; how many of each were new."""
    known = _Known(draft, load, numbers)
    hashes = pl.Series([each.sha256 for each in load.readings], dtype=pl.String)
    inserted: Counter[int] = Counter()

    def land_portion(portion: pl.DataFrame) -> dict[int, int]:
        found: Counter[int] = Counter()
        for period, events in _by_period(_of(portion, numbers)):
            name = period_name(period, load.partition)
            rows = known.new(events, name)
            if rows.height:
                found.update(dict(rows[FILE_NUMBER].value_counts().iter_rows()))
                file = hashes.gather(rows[FILE_NUMBER]).alias(schema.FILE)
                draft.write(rows.with_columns(file, pl.lit(name).alias(schema.PERIOD)), name)
        return found

    for counts in parallel.in_order(land_portion, load.spill.portions(), threads=THREADS):
        inserted.update(counts)
    return inserted


def _by_period(rows: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
    """Rows of each period; they are sorted by it."""
    periods = rows[KEY].to_numpy()
    starts = np.concatenate([[0], np.flatnonzero(np.diff(periods)) + 1, [len(periods)]])
    for start, end in pairwise(starts):
        if end > start:
            yield int(periods[start]), rows.slice(start, end - start)


def _of(portion: pl.DataFrame, numbers: list[int]) -> pl.DataFrame:
    """The rows of these files, mostly all."""
    wanted = pl.Series(numbers, dtype=pl.UInt32)
    if portion[FILE_NUMBER].unique().is_in(wanted.implode()).all():
        return portion
    return portion.filter(pl.col(FILE_NUMBER).is_in(wanted.implode()))


@dataclass
class _Known:
    """What tells new events from those that are there already."""

    draft: Draft
    load: Load
    numbers: list[int]

    def __post_init__(self) -> None:
        self._files = self.draft.paths_by_partition()
        self._ids, self._repeats = pl.DataFrame(), pl.DataFrame()
        hashes = pl.concat(self.load.event_ids) if self.load.event_ids else pl.Series(dtype=pl.UInt64)
        if len(hashes):
            self._ids = self._known_ids(hashes)
            self._repeats = self._repeated(hashes)

    def new(self, events: pl.DataFrame, period: str) -> pl.DataFrame:
        """The rows of a period that are neither in the lake nor earlier in the load."""
        rows = duplicates.without_repeats(events, order=ORDER)
        if self._repeats.height:
            rows = rows.join(self._repeats, on=ORDER, how="anti")
        if self._ids.height:
            rows = rows.join(self._ids, on=schema.EVENT_ID, how="anti")
        paths = self._files.get(period, [])
        if not paths or rows[schema.EVENT_ID].null_count() == 0:
            return rows
        return duplicates.without_known(rows, self.draft.lake.read_parquet(paths).select(duplicates.IDENTITY).collect())

    def _known_ids(self, hashes: pl.Series) -> pl.DataFrame:
        """Ids of the lake that occur in the load, whatever their period."""
        paths = [path for each in self._files.values() for path in each]
        if not paths:
            return pl.DataFrame()
        ids = self.draft.lake.read_parquet(paths).select(schema.EVENT_ID).drop_nulls()
        wanted = hashes.unique().alias(HASH).to_frame().lazy()
        found = ids.with_columns(pl.col(schema.EVENT_ID).hash().alias(HASH)).join(wanted, on=HASH, how="semi")
        return found.select(schema.EVENT_ID).unique().collect(engine="streaming")

    def _repeated(self, hashes: pl.Series) -> pl.DataFrame:
        """Where ids occur again in the load: file and row of all but the first."""
        twice = hashes.filter(hashes.is_duplicated()).unique()
        if twice.is_empty():
            return pl.DataFrame()
        is_candidate = pl.col(schema.EVENT_ID).hash().is_in(twice.implode())
        found = pl.concat(
            _of(portion, self.numbers).filter(is_candidate).select(schema.EVENT_ID, *ORDER)
            for portion in self.load.spill.portions()
        ).sort(ORDER)
        return found.filter(~pl.col(schema.EVENT_ID).is_first_distinct()).select(ORDER)
