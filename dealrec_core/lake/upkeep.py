"""Upkeep of the tables: small files are joined, files that no version needs are removed, and a report says what there is.

A version is pinned, and every file of it stays, while a night may still be asked how it came about: the newest nights, every
night whose model is registered, and every night that made a champion.
"""

import time
from collections import defaultdict
from functools import partial

import polars as pl
from deltalake import CommitProperties
from deltalake.exceptions import DeltaError
from pydantic import BaseModel, ConfigDict

from dealrec_core import schema
from dealrec_core.errors import LakeError
from dealrec_core.lake import Lake, damage, promotions
from dealrec_core.lake.commit import commit, until_committed
from dealrec_core.lake.nights import TABLES, Night, nights
from dealrec_core.lake.store import line
from dealrec_core.lake.tables import LASTING


class TableReport(BaseModel):
    """The state of a table, and what upkeep did to it."""

    model_config = ConfigDict(frozen=True)

    table: str
    version: int
    rows: int
    files: int
    mib: float
    """Size of the newest version's files."""
    old_files: int
    """Files that only older versions need."""
    pinned: int
    """Versions that nights name."""
    joined: int
    """Files that compaction put into larger ones."""
    removed: int
    """Files that vacuum removed."""


def pinned(lake: Lake, *, registered: set[str] | None, newest: int) -> dict[str, set[int]]:
    """Returns the versions of every table that must stay readable.

    registered: nights whose model is still in the registry; None if the registry does not answer, then every night with a
        decision counts.
    newest: number of nights that count in any case, the newest ones.
    """
    all_nights = nights(lake)
    decided = promotions.decisions(lake)
    champions = decided.filter(pl.col("action") != promotions.REJECTED)
    named = registered if registered is not None else set(decided[schema.NIGHT])
    names = named | set(champions[schema.NIGHT]) | {night.name for night in all_nights[-newest:]}
    versions: dict[str, set[int]] = defaultdict(set)
    for night in all_nights:
        if night.name in names:
            for table, version in versions_of(night):
                versions[table].add(version)
    return dict(versions)


def compact(lake: Lake, table: str, *, file_mib: int) -> int:
    """Joins small files of a table, and returns how many went into larger ones.

    Safe beside any writer: rows stay as they are, the change feed shows nothing, and where the table's rules see a conflict
    nothing is changed and the files are looked at again.

    Raises:
        LakeError: others were faster too many times, or the table cannot be written.
    """

    def attempt() -> int:
        handle = lake.open(table)
        joined = 0

        def join(*, commit_properties: CommitProperties) -> None:
            nonlocal joined
            assert handle is not None
            metrics = handle.optimize.compact(target_size=file_mib * 2**20, commit_properties=commit_properties)
            joined = int(metrics["numFilesRemoved"])

        if handle is not None:
            commit(lake, table, handle, join)
        return joined

    return until_committed(table, attempt)


def vacuum(lake: Lake, table: str, *, keep: set[int], retention_hours: int) -> int:
    """Removes files that neither the newest version nor those to keep need, after a retention; returns how many.

    The caller holds the lake's lock: a file that an ingest has written and not yet committed looks as if no version needed it.

    Raises:
        LakeError: a version to keep cannot be read, or the table cannot be written; nothing was removed.
    """
    handle = lake.open(table)
    if handle is None:
        return 0
    versions = sorted(version for version in keep if 0 <= version <= handle.version())
    clear = partial(handle.vacuum, retention_hours, enforce_retention_duration=False, full=True, keep_versions=versions)
    try:
        doomed = clear(dry_run=True)
        if doomed:
            clear(dry_run=False)
        return len(doomed) + _remove_unfinished(lake, table, retention_hours)
    except (DeltaError, OSError) as error:
        raise LakeError(f"cannot vacuum table '{table}' in {lake.root}: {line(error)}; nothing was lost") from error


def _remove_unfinished(lake: Lake, table: str, retention_hours: int) -> int:
    """Removes what killed writers left under names that the table library does not look at; returns how many files."""
    limit, removed = time.time() - 3600 * retention_hours, 0
    for path in damage.unfinished(lake, table):
        local = lake.local_path(path)
        if local is not None and local.stat().st_mtime <= limit:
            lake.remove(path)
            removed += 1
    return removed


def settle(lake: Lake, table: str) -> None:
    """Writes a checkpoint of a table's log, which makes it quick to open; a table of an older program gets today's properties."""
    handle = lake.open(table)
    if handle is None:
        return
    try:
        present = handle.metadata().configuration
        if any(present.get(name) != value for name, value in LASTING.items()):
            handle.alter.set_table_properties({name: str(value) for name, value in LASTING.items()})
        handle.create_checkpoint()
    except (DeltaError, OSError) as error:
        raise LakeError(f"cannot write a checkpoint of '{table}' in {lake.root}: {line(error)}") from error


def look(lake: Lake, table: str, *, pins: set[int], joined: int = 0, removed: int = 0) -> TableReport:
    """Returns the state of a table, from its log and the files below it.

    Raises:
        LakeError: there is no such table.
    """
    handle = lake.open(table)
    if handle is None:
        raise LakeError(f"no table '{table}' in {lake.root}")
    files = pl.DataFrame(handle.get_add_actions(flatten=True))
    return TableReport(
        table=table,
        version=handle.version(),
        rows=int(files["num_records"].sum() or 0) if files.height else 0,
        files=files.height,
        mib=round(int(files["size_bytes"].sum() or 0) / 2**20, 2) if files.height else 0.0,
        old_files=len(data_files(lake, table)) - files.height,
        pinned=len(pins),
        joined=joined,
        removed=removed,
    )


def versions_of(night: Night) -> list[tuple[str, int]]:
    """Returns the table versions that a night depends on or made."""
    versions = list(night.manifest.versions.items())
    for snapshot in night.snapshots():
        versions += snapshot.versions
    return [(table, version) for table, version in versions if version >= 0]


def data_files(lake: Lake, table: str) -> list[str]:
    """Returns every Parquet file of a table, of any version or none, as paths below the root; checkpoints are no data."""
    paths = lake.list_paths(table)
    return [path for path in paths if path.endswith(".parquet") and f"{table}/_delta_log/" not in path]


def tables(lake: Lake) -> list[str]:
    """Returns the tables that have been written."""
    return [table for table in TABLES if lake.exists(table)]
