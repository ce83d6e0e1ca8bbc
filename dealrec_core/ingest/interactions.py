"""Takes raw interactions into the lake, every row once.

Books balance for every file: rows = earlier + inserted + duplicates + quarantined + filtered + postponed.

A load is read (load.py), held back on disk where it is large (spill.py) and committed (landing.py); the commit carries the
hash of every file it takes, so a killed ingest is simply run again.
"""

from collections.abc import Iterator
from datetime import date
from functools import partial

from dealrec_core import schema
from dealrec_core.errors import SourceError
from dealrec_core.ingest import item_files, sources
from dealrec_core.ingest.landing import land
from dealrec_core.ingest.load import Load, Partition, Shard
from dealrec_core.ingest.raw.batch import ColumnMissing
from dealrec_core.ingest.sources import RawFile
from dealrec_core.ingest.spill import Spill
from dealrec_core.lake import Lake, erased, ledger
from dealrec_core.lake.erased import Erased
from dealrec_core.lake.ledger import IngestReport
from dealrec_core.lake.parallel import Over
from dealrec_core.settings.sources import InteractionSource, SourcesConfig

raw_record = sources.raw_record
ingest_items = item_files.ingest_items
LOAD_BYTES, LOAD_FILES = 8 * 2**30, 10_000
"""Of raw files in one commit."""
SHARD_BYTES, SHARD_FILES = 64 * 2**20, 100
"""Of raw files that are read elsewhere at once; a larger file is a shard of its own."""

Waiting = tuple[RawFile, str, int | None]
"""A file with something to take: its sha256 and the number of its last reading."""


def ingest(
    lake: Lake, config: SourcesConfig, *, through: date, partition: Partition, over: Over | None = None
) -> IngestReport:
    """Takes every row up to the end of day `through` (UTC) that the lake does not have yet; later rows are postponed.

    over: maps the reading of files over other processes or machines, of which one then holds the rows of a shard; None reads
        here, in blocks.

    Raises:
        SourceError: the root cannot be read, or no file matches.
        SettingsError: a mapped column is in no file, or the filter makes no sense.
        DataError: too many rows are bad (sources.max_bad_fraction); nothing of their load was taken.
    """
    ledger.heal(lake)
    waiting = _waiting(lake, config, through=through, over=over)
    if waiting is None:
        raise SourceError(
            f"no file in '{config.root}' matches {config.interactions.files}; set sources.interactions.files"
        )
    total = IngestReport()
    for files in _groups(waiting, LOAD_BYTES, LOAD_FILES):
        with Spill() as spill:
            load = Load(config.interactions, through, partition, spill, erased.erased(lake))
            if over is None:
                _read(load, files)
            else:
                _read_elsewhere(load, files, over)
            _check_mapping(load)
            load.guard(config.max_bad_fraction)
            for row in land(lake, load):
                counts = {name: row[name] for name in IngestReport.model_fields if name != "files"}
                total += IngestReport(files=[row["path"]], **counts)
    return total


def untaken(lake: Lake, config: SourcesConfig, *, through: date) -> list[RawFile]:
    """The files of which a night up to `through` would take rows."""
    return [file for file, _, _ in _waiting(lake, config, through=through) or []]


def _waiting(lake: Lake, config: SourcesConfig, *, through: date, over: Over | None = None) -> list[Waiting] | None:
    """Files with something for this night, each content once; None where there are no files at all."""
    found = sources.find(config.root, config.interactions.files)
    if not found:
        return None
    hashes = _hashes(lake, found, over)
    table = lake.open("interactions")
    waiting: dict[str, Waiting] = {}
    for file in found:
        sha256 = hashes[file.path]
        before = None if table is None else table.transaction_version(sha256)
        if (before or 0) < through.toordinal():
            waiting.setdefault(sha256, (file, sha256, before))
    return list(waiting.values())


def _hashes(lake: Lake, files: list[RawFile], over: Over | None) -> dict[str, str]:
    """The content hash of every file by its path; one that looks as it did when it was read is not read again."""
    taken = _known_hashes(lake)
    known = {file.path: taken[file.path, file.stamp] for file in files if (file.path, file.stamp) in taken}
    new = list(_groups([(file, "", None) for file in files if file.path not in known], SHARD_BYTES, SHARD_FILES))
    for group, hashes in zip(new, (over or map)(_content_hashes, new), strict=True):
        known |= {file.path: sha256 for (file, _, _), sha256 in zip(group, hashes, strict=True)}
    return known


def _content_hashes(files: list[Waiting]) -> list[str]:
    return [sources.content_hash(file.path) for file, _, _ in files]


def _known_hashes(lake: Lake) -> dict[tuple[str, str], str]:
    """Content hashes of files that look as they did when they were read."""
    if not lake.exists("files"):
        return {}
    rows = lake.scan("files")
    if "stamp" not in rows.collect_schema():
        return {}
    known = rows.select("path", "stamp", schema.FILE).drop_nulls().collect()
    return {(path, stamp): file for path, stamp, file in known.iter_rows()}


def _groups(files: list[Waiting], most_bytes: int, most_files: int) -> Iterator[list[Waiting]]:
    """The files in their order, in groups of at most so many bytes (or one file) and files."""
    group: list[Waiting] = []
    size = 0
    for each in files:
        if group and (size + each[0].size_bytes > most_bytes or len(group) == most_files):
            yield group
            group, size = [], 0
        group.append(each)
        size += each[0].size_bytes
    if group:
        yield group


def _read(load: Load, files: list[Waiting]) -> None:
    """Reads all; a file without a mapped column is bad as a whole."""
    for file, sha256, before in files:
        try:
            load.read(file, sha256, before=before)
        except ColumnMissing as error:
            load.give_up(error)


def _read_elsewhere(load: Load, files: list[Waiting], over: Over) -> None:
    read = partial(_shard, load.source, load.through, load.partition, load.erased)
    for shard in over(read, list(_groups(files, SHARD_BYTES, SHARD_FILES))):
        load.take(shard)


def _shard(source: InteractionSource, through: date, partition: Partition, gone: Erased, files: list[Waiting]) -> Shard:
    """Some files in a load of their own."""
    with Spill() as spill:
        load = Load(source, through, partition, spill, gone)
        _read(load, files)
        return Shard(load.readings, list(spill.portions()), load.event_ids)


def _check_mapping(load: Load) -> None:
    """Raises ColumnMissing where a mapped column is in no file: then the mapping is wrong."""
    missing = [each.missing for each in load.readings]
    if all(missing) and missing[0] is not None:
        raise missing[0]
