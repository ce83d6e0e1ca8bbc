"""Keeps the table `samples` up to date with the log: a night makes the samples of its new events, and those that they change."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl

from dealrec_core import schema
from dealrec_core.errors import LakeError
from dealrec_core.lake import Lake, parallel
from dealrec_core.lake.draft import Draft, change, open_draft
from dealrec_core.samples.histories import IS_NEW, Histories

logger = logging.getLogger(__name__)

TABLE, LOG = "samples", "interactions"
EVENT = [schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP, schema.EVENT_ID, schema.FILE, schema.ROW]
CHUNK_ROWS = 500_000
"""Events that become samples at once, in a full build."""
GROUP_USERS = 250_000
"""Users whose events are in memory at once, in an update."""
LENGTHS = 2**10
"""More than any history length: the transaction number is the version of the log times this, plus the history length."""
THREADS = 2
NOTE = "dealrec.samples"
"""Note of a commit with what it wrote: an update that was killed after it reports the same when it is run again."""


@dataclass(frozen=True)
class Update:
    """The state of the table after an update, and what the update wrote."""

    version: int
    """The version that holds the samples of the log."""
    rows: int
    """All samples."""
    written: int
    """New and changed samples."""
    is_rebuilt: bool
    """Whether all samples were made anew: the first time, for another history length, or after rows of the log were deleted."""


def update(lake: Lake, *, log_version: int, length: int, before: int = -1) -> Update:
    """Brings the table to the samples of `interactions` at a version; samples that are there already are not made again.

    The commit records the version in a transaction, so an update that was killed is simply run again.

    before: version of the table when the night opened; what was written since counts as written now.

    Raises:
        LakeError: other writers were faster too many times.
    """
    number = log_version * LENGTHS + length

    def attempt(draft: Draft) -> Update:
        last = draft.recorded(TABLE)
        if last == number:
            return Update(draft.handle.version(), draft.rows(), **_noted(draft, number, before))
        changed = _changed_samples(lake, last, log_version, length)
        frames = _all_samples(lake, log_version, length) if changed is None else [changed]
        _drop(lake, draft, changed)
        written = sum(parallel.in_order(partial(_write, draft), frames, threads=THREADS))
        note = {"number": number, "written": written, "is_rebuilt": changed is None}
        version = draft.commit({TABLE: number}, {NOTE: json.dumps(note)})
        rows = open_draft(lake, TABLE, schema=schema.SAMPLE_TABLE, partition=schema.PERIOD).rows()
        return Update(version, rows, written, changed is None)

    return change(lake, TABLE, attempt, schema=schema.SAMPLE_TABLE, partition=schema.PERIOD)


def _noted(draft: Draft, number: int, before: int) -> dict[str, Any]:
    """The fields `written` and `is_rebuilt` of the update since version `before`; nothing was written where there was none."""
    commits = draft.handle.version() - before
    for commit in draft.handle.history(commits) if commits else []:
        note = json.loads(commit.get(NOTE, "{}"))
        if note.pop("number", None) == number:
            return note
    return {"written": 0, "is_rebuilt": False}


def _changed_samples(lake: Lake, done: int | None, log_version: int, length: int) -> pl.DataFrame | None:
    """Samples (SAMPLE_TABLE) that events since the last update make or change; None where all must be made anew."""
    if done is None or done % LENGTHS != length or done // LENGTHS > log_version:
        return None
    since = done // LENGTHS
    try:
        feed = lake.changes(LOG, since, log_version)
        if (feed["_change_type"] != "insert").any():
            return None
        new = feed.select(pl.col(name).cast(schema.INTERACTIONS[name]) for name in [*EVENT, schema.PERIOD])
        log = lake.scan(LOG, since).select(EVENT)
        frames = [_changed(log, group, length) for group in _groups(new)]
    except (LakeError, OSError, pl.exceptions.PolarsError) as error:
        logger.info("all samples are made anew, since upkeep has removed version %d of the log: %s", since, error)
        return None
    if not frames:
        return pl.DataFrame(schema=schema.SAMPLE_TABLE)
    return pl.concat(frames).with_columns(_period(new[schema.PERIOD][0]))


def _all_samples(lake: Lake, log_version: int, length: int) -> Iterator[pl.DataFrame]:
    """The samples (SAMPLE_TABLE) of the whole log, a few periods at a time, in order of time."""
    log = lake.scan(LOG, log_version)
    sizes = log.group_by(schema.PERIOD).len().sort(schema.PERIOD).collect(engine="streaming")
    histories = Histories(length)
    for periods in _chunks(sizes):
        yield histories.samples(
            log.filter(pl.col(schema.PERIOD).is_in(periods)).select(*EVENT, schema.PERIOD).collect()
        )


def _chunks(sizes: pl.DataFrame) -> Iterator[list[str]]:
    """Consecutive periods with about CHUNK_ROWS events in all."""
    numbers = (sizes["len"].cum_sum() - 1) // CHUNK_ROWS
    for _, chunk in sizes.group_by(numbers, maintain_order=True):
        yield chunk[schema.PERIOD].to_list()


def _write(draft: Draft, frame: pl.DataFrame) -> int:
    for (period,), rows in frame.partition_by(schema.PERIOD, as_dict=True).items():
        draft.write(rows, str(period))
    return frame.height


def _groups(new: pl.DataFrame) -> list[pl.DataFrame]:
    users = new[schema.USER_ID].n_unique()
    if not users:
        return []
    group = (pl.col(schema.USER_ID).hash() % (1 + users // GROUP_USERS)).alias("group")
    return new.with_columns(group).partition_by("group", include_key=False)


def _changed(log: pl.LazyFrame, new: pl.DataFrame, length: int) -> pl.DataFrame:
    users = new.lazy().select(schema.USER_ID).unique()
    old = log.join(users, on=schema.USER_ID, how="semi").collect(engine="streaming")
    events = pl.concat([old.with_columns(pl.lit(False).alias(IS_NEW)), new.select(*EVENT, pl.lit(True).alias(IS_NEW))])
    return Histories(length).samples(events)


def _period(like: str) -> pl.Expr:
    """The day, month or year of a sample's time, in the form of an example."""
    form = {10: "%Y-%m-%d", 7: "%Y-%m", 4: "%Y"}[len(like)]
    return pl.col(schema.TIMESTAMP).dt.strftime(form).alias(schema.PERIOD)


def _drop(lake: Lake, draft: Draft, changed: pl.DataFrame | None) -> None:
    """Drops changed samples from their files, all samples when None."""
    files = draft.files()
    if changed is None:
        for path in files["path"]:
            draft.remove(path)
        return
    files = files.filter(pl.col(schema.PERIOD).is_in(changed[schema.PERIOD].unique().implode()))
    ids = changed[schema.SAMPLE_ID].implode()
    for path, period in files.select("path", schema.PERIOD).iter_rows():
        rows = lake.read_parquet([f"{lake.uri(TABLE)}/{path}"]).collect()
        unchanged = rows.filter(~pl.col(schema.SAMPLE_ID).is_in(ids))
        if unchanged.height < rows.height:
            draft.remove(path)
            if unchanged.height:
                draft.write(unchanged.with_columns(pl.lit(period).alias(schema.PERIOD)), period)
