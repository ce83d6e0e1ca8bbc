"""Finds the raw files that hold rows which the lake does not have yet."""

from collections.abc import Iterator
from datetime import date

from dealrec_core import schema
from dealrec_core.ingest import sources
from dealrec_core.ingest.sources import RawFile
from dealrec_core.lake import Lake
from dealrec_core.lake.parallel import Over
from dealrec_core.settings.sources import SourcesConfig

SHARD_BYTES, SHARD_FILES = 64 * 2**20, 100
"""Largest shard handed to one worker; a larger file forms a shard alone."""
Waiting = tuple[RawFile, str, int | None]
"""A file with rows to ingest, its sha256 and the number of its last reading."""


def untaken(lake: Lake, config: SourcesConfig, *, through: date) -> list[RawFile]:
    """Returns the files that hold rows for a night up to `through`."""
    return [file for file, _, _ in waiting_files(lake, config, through=through) or []]


def waiting_files(
    lake: Lake, config: SourcesConfig, *, through: date, over: Over | None = None
) -> list[Waiting] | None:
    """Returns the files with rows for a night up to `through`, each content once; None where there are no files at all."""
    files = sources.find(config.root, config.interactions.files)
    if not files:
        return None
    by_path = hashes(lake, files, over)
    table = lake.open("interactions")
    waiting: dict[str, Waiting] = {}
    for file in files:
        sha256 = by_path[file.path]
        before = None if table is None else table.transaction_version(sha256) or None
        if (before or 0) < through.toordinal():
            waiting.setdefault(sha256, (file, sha256, before))
    return list(waiting.values())


def hashes(lake: Lake, files: list[RawFile], over: Over | None) -> dict[str, str]:
    """Returns the content hash of every file by its path; a file that looks as it did when it was read is not hashed again."""
    recorded = _recorded_hashes(lake)
    by_path = {file.path: recorded[file.path, file.stamp] for file in files if (file.path, file.stamp) in recorded}
    new = list(groups([(file, "", None) for file in files if file.path not in by_path], SHARD_BYTES, SHARD_FILES))
    for group, new_hashes in zip(new, (over or map)(_content_hashes, new), strict=True):
        by_path |= {file.path: sha256 for (file, _, _), sha256 in zip(group, new_hashes, strict=True)}
    return by_path


def _content_hashes(files: list[Waiting]) -> list[str]:
    return [sources.content_hash(file.path) for file, _, _ in files]


def _recorded_hashes(lake: Lake) -> dict[tuple[str, str], str]:
    """The content hashes in the table `files` by path and stamp."""
    if not lake.exists("files"):
        return {}
    rows = lake.scan("files")
    if "stamp" not in rows.collect_schema():
        return {}
    stamps = rows.select("path", "stamp", schema.FILE).drop_nulls().collect()
    return {(path, stamp): file for path, stamp, file in stamps.iter_rows()}


def groups(files: list[Waiting], most_bytes: int, most_files: int) -> Iterator[list[Waiting]]:
    """Yields the files in their order, in groups of at most `most_bytes` (or one file) and `most_files`."""
    group: list[Waiting] = []
    size = 0
    for waiting in files:
        size_bytes = waiting[0].size_bytes
        if group and (size + size_bytes > most_bytes or len(group) == most_files):
            yield group
            group, size = [], 0
        group.append(waiting)
        size += size_bytes
    if group:
        yield group
