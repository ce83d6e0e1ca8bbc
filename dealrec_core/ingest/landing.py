"""Writes bad rows to `quarantine`, then new events and transaction ids to `interactions` in one commit, then rows to `files`."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import polars as pl

from dealrec_core import schema
from dealrec_core.errors import SettingsError
from dealrec_core.ingest import duplicates
from dealrec_core.ingest.delivery import FILE_NUMBER, ORDER, THREADS, Delivery, Partition, Reading, period_name
from dealrec_core.ingest.raw.batch import HASH, KEY
from dealrec_core.lake import Lake, ledger, parallel
from dealrec_core.lake.draft import Draft, change

AGAIN = "dealrec.again"
"""Transaction of `interactions`: how often files were read again."""


def land(lake: Lake, delivery: Delivery) -> list[ledger.Row]:
    """Commits a delivery and returns its rows of `files`; when a racing ingest was faster, looks again at what is new.

    Raises:
        LakeError: others were faster too many times.
        SettingsError: the table is partitioned in another way.
    """
    unchanged = [reading for reading in delivery.readings if not reading.is_changing]
    for is_again in (False, True):  # of a file that is read again only the last line, which waited, can be bad
        bad = [
            (reading.sha256, reading.file.path, pl.concat(reading.bad))
            for reading in unchanged
            if reading.bad and not reading.is_replay and (reading.before is not None) == is_again
        ]
        if bad or not is_again:
            replaced = _replaced(delivery, unchanged)
            ledger.quarantine(lake, bad, part=ledger.PARTS[is_again], replaced=replaced)
    rows = change(lake, "interactions", partial(_commit, delivery), schema=schema.INTERACTIONS, partition=schema.PERIOD)
    ledger.write(lake, rows)
    return rows


def _check_partition(draft: Draft, partition: Partition) -> None:
    """Raises SettingsError for another partition: periods of different lengths in one table would not sort by time."""
    letters = {"day": 10, "month": 7, "year": 4}
    for period in draft.paths_by_partition():
        if len(period) != letters[partition]:
            there = next((name for name, count in letters.items() if count == len(period)), "something else")
            raise SettingsError(
                f"lake.partition is '{partition}', but '{draft.table}' is partitioned by {there} (it has {period}); "
                f"set lake.partition = '{there}' or begin another lake"
            )


def _commit(delivery: Delivery, draft: Draft) -> list[ledger.Row]:
    _check_partition(draft, delivery.partition)
    landing = {
        number: reading
        for number, reading in enumerate(delivery.readings)
        if not reading.is_changing
        and (reading.sha256 in delivery.replaced or (draft.recorded(reading.transaction) or None) == reading.before)
    }
    if not landing:
        return []
    replaced = _replaced(delivery, landing.values())
    if replaced:
        draft.drop(pl.col(schema.FILE).is_in(replaced))
    whole = [number for number, reading in landing.items() if not reading.is_broken]
    inserted = _write(draft, delivery, whole, replaced)
    rows = [_row(reading, delivery, inserted.get(number, 0)) for number, reading in landing.items()]
    if replaced:
        rows = [
            {**row, "replaces": delivery.replaced[row[schema.FILE]], "again": draft.handle.version() + 1}
            for row in rows
        ]
    transactions = dict.fromkeys(replaced, 0) | {
        reading.transaction: row["number"] for reading, row in zip(landing.values(), rows, strict=True)
    }
    # A row from quarantine that is later than the day has a later night read its file again.
    again = [reading.sha256 for reading in landing.values() if reading.is_replay and reading.counts["postponed"]]
    if replaced:
        transactions[AGAIN] = (draft.recorded(AGAIN) or 0) + 1
    draft.commit(transactions | dict.fromkeys(again, delivery.through.toordinal()), ledger.note(rows))
    return rows


def _replaced(delivery: Delivery, readings: Iterable[Reading]) -> list[str]:
    """The hashes of the contents whose rows go."""
    return sorted({file for reading in readings for file in delivery.replaced.get(reading.sha256, ())})


def _row(reading: Reading, delivery: Delivery, inserted: int) -> ledger.Row:
    number = delivery.through.toordinal() if reading.counts["postponed"] else ledger.FINISHED
    landed = {"inserted": inserted, "duplicates": reading.counts["due"] - inserted}
    return {
        **{schema.FILE: reading.sha256, "path": reading.file.path, "stamp": reading.file.stamp},
        **{"kind": "replay" if reading.is_replay else "interactions", "through": delivery.through.isoformat()},
        **{name: reading.counts[name] for name in ledger.COUNTS},
        **landed,
        "number": (reading.before or 0) + 1 if reading.is_replay else number,
    }


def _write(draft: Draft, delivery: Delivery, numbers: list[int], replaced: list[str]) -> dict[int, int]:
    """Writes the new events of the files with these numbers, and returns how many each file had."""
    present = _Present(draft, delivery, numbers, replaced)
    hashes = pl.Series([reading.sha256 for reading in delivery.readings], dtype=pl.String)
    inserted: Counter[int] = Counter()

    def land_portion(portion: pl.DataFrame) -> dict[int, int]:
        counts: Counter[int] = Counter()
        for period, events in _by_period(_of_files(portion, numbers)):
            name = period_name(period, delivery.partition)
            rows = present.new(events, name)
            if rows.height:
                counts.update(dict(rows[FILE_NUMBER].value_counts().iter_rows()))
                file = hashes.gather(rows[FILE_NUMBER]).alias(schema.FILE)
                draft.write(rows.with_columns(file, pl.lit(name).alias(schema.PERIOD)), name)
        return counts

    for counts in parallel.in_order(land_portion, delivery.spill.portions(), threads=THREADS):
        inserted.update(counts)
    return inserted


def _by_period(rows: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
    """Rows of each period; they are sorted by it."""
    periods = rows[KEY].to_numpy()
    starts = np.concatenate([[0], np.flatnonzero(np.diff(periods)) + 1, [len(periods)]])
    for start, end in pairwise(starts):
        if end > start:
            yield int(periods[start]), rows.slice(start, end - start)


def _of_files(portion: pl.DataFrame, numbers: list[int]) -> pl.DataFrame:
    """Rows that belong to these files; usually the whole portion, returned unchanged."""
    files = pl.Series(numbers, dtype=pl.UInt32).implode()
    if portion[FILE_NUMBER].unique().is_in(files).all():
        return portion
    return portion.filter(pl.col(FILE_NUMBER).is_in(files))


@dataclass
class _Present:
    """The events that are in the lake already, as the rows of a delivery are compared with them."""

    draft: Draft
    delivery: Delivery
    numbers: list[int]
    replaced: list[str]
    """Hashes of the contents whose rows go with this commit."""

    def __post_init__(self) -> None:
        self._files = self.draft.paths_by_partition()
        self._ids, self._repeats = pl.DataFrame(), pl.DataFrame()
        hashes = pl.concat(self.delivery.event_ids) if self.delivery.event_ids else pl.Series(dtype=pl.UInt64)
        if len(hashes):
            self._ids = self._present_ids(hashes)
            self._repeats = self._repeated(hashes)

    def new(self, events: pl.DataFrame, period: str) -> pl.DataFrame:
        """Returns the rows of a period that are neither in the lake nor earlier in the delivery."""
        rows = duplicates.without_repeats(events, order=ORDER)
        if self._repeats.height:
            rows = rows.join(self._repeats, on=ORDER, how="anti")
        if self._ids.height:
            rows = rows.join(self._ids, on=schema.EVENT_ID, how="anti")
        paths = self._files.get(period, [])
        if not paths or rows[schema.EVENT_ID].null_count() == 0:
            return rows
        return duplicates.without_present(rows, self._rows(paths).select(duplicates.IDENTITY).collect())

    def _rows(self, paths: list[str]) -> pl.LazyFrame:
        """Rows of data files that stay."""
        rows = self.draft.lake.read_parquet(paths)
        return rows.filter(~pl.col(schema.FILE).is_in(self.replaced)) if self.replaced else rows

    def _present_ids(self, hashes: pl.Series) -> pl.DataFrame:
        """Ids of the lake that occur in the delivery, whatever their period."""
        paths = [path for paths in self._files.values() for path in paths]
        if not paths:
            return pl.DataFrame()
        ids = self._rows(paths).select(schema.EVENT_ID).drop_nulls()
        delivered = hashes.unique().alias(HASH).to_frame().lazy()
        common = ids.with_columns(pl.col(schema.EVENT_ID).hash().alias(HASH)).join(delivered, on=HASH, how="semi")
        return common.select(schema.EVENT_ID).unique().collect(engine="streaming")

    def _repeated(self, hashes: pl.Series) -> pl.DataFrame:
        """Where ids occur again in the delivery: file and row of all occurrences but the first."""
        twice = hashes.filter(hashes.is_duplicated()).unique()
        if twice.is_empty():
            return pl.DataFrame()
        is_candidate = pl.col(schema.EVENT_ID).hash().is_in(twice.implode())
        candidates = pl.concat(
            _of_files(portion, self.numbers).filter(is_candidate).select(schema.EVENT_ID, *ORDER)
            for portion in self.delivery.spill.portions()
        ).sort(ORDER)
        return candidates.filter(~pl.col(schema.EVENT_ID).is_first_distinct()).select(ORDER)
