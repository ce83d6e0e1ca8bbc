"""Takes raw interactions into the lake, every row once.

Books balance for every file: rows = earlier + inserted + duplicates + quarantined + filtered + postponed.

A load is read (load.py), held back on disk where it is large (spill.py) and committed (landing.py); the commit carries the
hash of every file it takes, so a killed ingest is simply run again.
"""

from collections.abc import Iterator
from datetime import date

from dealrec_core import books, erased, item_files, schema, sources
from dealrec_core.books import IngestReport
from dealrec_core.errors import SourceError
from dealrec_core.lake import Lake
from dealrec_core.landing import land
from dealrec_core.load import Load, Partition
from dealrec_core.raw.batch import ColumnMissing
from dealrec_core.sources import RawFile, SourcesConfig
from dealrec_core.spill import Spill

raw_record = sources.raw_record
ingest_items = item_files.ingest_items
LOAD_BYTES, LOAD_FILES = 8 * 2**30, 10_000
"""Of raw files in one commit."""


def ingest(lake: Lake, config: SourcesConfig, *, through: date, partition: Partition) -> IngestReport:
    """Takes every row up to the end of day `through` (UTC) that the lake does not have yet; later rows are postponed.

    Raises:
        SourceError: the root cannot be read, or no file matches.
        SettingsError: a mapped column is in no file, or the filter makes no sense.
        DataError: too many rows are bad (sources.max_bad_fraction); nothing of their load was taken.
    """
    books.heal(lake)
    waiting = _waiting(lake, config, through=through)
    if waiting is None:
        raise SourceError(
            f"no file in '{config.root}' matches {config.interactions.files}; set sources.interactions.files"
        )
    total = IngestReport()
    for files in _loads(waiting):
        with Spill() as spill:
            load = Load(config.interactions, through, partition, spill, erased.erased(lake))
            _read(load, files)
            load.guard(config.max_bad_fraction)
            for row in land(lake, load):
                counts = {name: row[name] for name in IngestReport.model_fields if name != "files"}
                total += IngestReport(files=[row["path"]], **counts)
    return total


def untaken(lake: Lake, config: SourcesConfig, *, through: date) -> list[RawFile]:
    """The files of which a night up to `through` would take rows."""
    return [file for file, _, _ in _waiting(lake, config, through=through) or []]


def _waiting(lake: Lake, config: SourcesConfig, *, through: date) -> list[tuple[RawFile, str, int | None]] | None:
    """Files with something for this night, each content once: its sha256 and the number of its last reading."""
    found = sources.find(config.root, config.interactions.files)
    if not found:
        return None
    hashes = _known_hashes(lake)
    table = lake.open("interactions")
    waiting: dict[str, tuple[RawFile, str, int | None]] = {}
    for file in found:
        sha256 = hashes.get((file.path, file.stamp)) or sources.content_hash(file.path)
        before = None if table is None else table.transaction_version(sha256)
        if (before or 0) < through.toordinal():
            waiting.setdefault(sha256, (file, sha256, before))
    return list(waiting.values())


def _known_hashes(lake: Lake) -> dict[tuple[str, str], str]:
    """Content hashes of files that look as they did when they were read."""
    if not lake.exists("files"):
        return {}
    rows = lake.scan("files")
    if "stamp" not in rows.collect_schema():
        return {}
    known = rows.select("path", "stamp", schema.FILE).drop_nulls().collect()
    return {(path, stamp): file for path, stamp, file in known.iter_rows()}


def _loads(waiting: list[tuple[RawFile, str, int | None]]) -> Iterator[list[tuple[RawFile, str, int | None]]]:
    load: list[tuple[RawFile, str, int | None]] = []
    size = 0
    for each in waiting:
        if load and (size + each[0].size_bytes > LOAD_BYTES or len(load) == LOAD_FILES):
            yield load
            load, size = [], 0
        load.append(each)
        size += each[0].size_bytes
    if load:
        yield load


def _read(load: Load, files: list[tuple[RawFile, str, int | None]]) -> None:
    """Reads all; a file without a mapped column is bad as a whole, unless all are: then the mapping is wrong."""
    missing: list[tuple[RawFile, str, ColumnMissing]] = []
    for file, sha256, before in files:
        try:
            load.read(file, sha256, before=before)
        except ColumnMissing as error:
            load.give_up(str(error))
            missing.append((file, sha256, error))
    if len(missing) == len(files) and missing:
        raise missing[0][2]
