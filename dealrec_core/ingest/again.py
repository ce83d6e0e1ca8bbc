"""Reads raw files again: their earlier rows are removed and their present rows by the present settings are written, in
one commit per table."""

from datetime import date

import polars as pl
from pydantic import Field

from dealrec_core import schema
from dealrec_core.errors import DataError, SourceError
from dealrec_core.ingest import interactions, item_files, sources, waiting
from dealrec_core.ingest.delivery import Partition
from dealrec_core.ingest.sources import RawFile
from dealrec_core.lake import Lake, ledger
from dealrec_core.lake.ledger import IngestReport
from dealrec_core.lake.parallel import Over
from dealrec_core.settings.sources import SourcesConfig

READINGS = pl.Schema({**schema.FILES, "order": pl.UInt32()})


class Correction(IngestReport):
    """The files that were read again, the number of their earlier rows, and the counts of their present rows."""

    withdrawn: int = 0
    """Rows of `interactions` that came from these files, or from what their names held before."""
    also: list[str] = Field(default=[])
    """Files that no pattern named, and that were read again because events of theirs were duplicates."""
    items: IngestReport = IngestReport()
    """Counts of the item files that were read again."""


def again(
    lake: Lake,
    config: SourcesConfig,
    patterns: list[str],
    *,
    through: date,
    partition: Partition,
    fewer: bool = False,
    over: Over | None = None,
) -> Correction:
    """Replaces all earlier rows of the names of files by their present rows, read with the present settings.

    Files that hold an event twice over with others are read again, too, since the other one may go. An `again` that was killed is
    simply run again.

    patterns: which of the files of interactions, as in `sources.interactions.files`.
    fewer: whether a file may have less than half of the earlier rows of its name.

    Raises:
        SourceError: no file matches.
        DataError: a name has more than twice the rows in the lake that its file has now, too many rows are bad, or none is taken.
    """
    ledger.heal(lake)
    items = item_files.again(lake, config, patterns)
    readings = _readings(lake)
    files, also, replaced = _files(lake, config, patterns, readings)
    if not files and not items.files:
        raise SourceError(
            f"no file of [sources] below '{config.root}' matches {', '.join(patterns)}; give a path or pattern below "
            "sources.root, such as log/2026-01-*.csv, or ** for all files"
        )
    if not files:
        return Correction(items=items)
    first = {
        file: row for row, file in enumerate(readings.sort("through", "order")["path"].unique(maintain_order=True))
    }
    files = dict(sorted(files.items(), key=lambda pair: (first.get(pair[1].path, len(first)), pair[1].path)))
    if not fewer:
        _require_rows(lake, config, files, replaced)
    withdrawn = _landed(lake, [file for hashes in replaced.values() for file in hashes])
    taken: list[waiting.Waiting] = [(file, sha256, None) for sha256, file in files.items()]
    total = interactions.land_files(
        lake, config, taken, through=through, partition=partition, over=over, replaced=replaced
    )
    return Correction(
        **total.model_dump(), withdrawn=withdrawn, also=sorted(files[sha256].path for sha256 in also), items=items
    )


def corrected(lake: Lake, readings: pl.DataFrame) -> list[str]:
    """Returns a sentence for each file that holds something else than its name held before, and more than a continuation of it.

    readings: the rows of `files` that are new; a name without an event of its earlier contents is taken to be used anew.
    """
    earlier = _readings(lake).rename({schema.FILE: "old", "stamp": "old_stamp", "inserted": "landed"})
    pairs = (
        readings.filter(pl.col("duplicates") > 0)
        .select(schema.FILE, "path", "rows")
        .join(earlier.select("old", "old_stamp", "landed", "path"), on="path")
    )
    news = set(readings[schema.FILE])
    sentences = {}
    for file, path, rows, old, stamp, landed in pairs.iter_rows():
        size = int(stamp.split("-")[0]) if stamp else None
        if (
            old not in news
            and file != old
            and landed
            and (size is None or sources.content_hash(path, first=size) != old)
        ):
            sentences[path] = (
                f"'{path}' has changed since it was read ({rows:,} rows now): its earlier rows stay in the lake. If it was corrected, "
                f"`dealrec ingest --again PATH` replaces them; PATH is the path below sources.root"
            )
    return list(sentences.values())


def days(lake: Lake) -> list[date]:
    """Returns the days up to which files of interactions were ingested."""
    return _readings(lake)["through"].unique().to_list()


def _readings(lake: Lake) -> pl.DataFrame:
    """The readings of files of interactions so far (READINGS)."""
    if not lake.exists("files"):
        return pl.DataFrame(schema=READINGS)
    rows = lake.scan("files").filter(pl.col("kind") != "items").collect()
    return rows.with_row_index("order").select(READINGS.names())


def _files(
    lake: Lake, config: SourcesConfig, patterns: list[str], readings: pl.DataFrame
) -> tuple[dict[str, RawFile], set[str], dict[str, list[str]]]:
    """The files to take again by their hash, which of these no pattern names, and for each the hashes of the contents that go."""
    named = {file.path for file in sources.find(config.root, patterns)}
    present = sources.find(config.root, config.interactions.files)
    if not any(file.path in named for file in present):
        return {}, set(), {}
    hashes = waiting.hashes(lake, present, None)
    files: dict[str, RawFile] = {}
    for file in present:
        if file.path in named:
            files.setdefault(hashes[file.path], file)
    overlapping = set(readings.filter(pl.col("duplicates") > 0)[schema.FILE])
    also: set[str] = set()
    for file in present:
        if (sha256 := hashes[file.path]) in overlapping and sha256 not in files:
            files[sha256] = file
            also.add(sha256)
    before = dict(readings.group_by("path").agg(pl.col(schema.FILE).unique()).iter_rows())
    taken = set(hashes.values())  # a content that has another name now stays
    replaced: dict[str, list[str]] = {}
    for sha256, file in files.items():
        others = set() if sha256 in also else set(before.get(file.path, [])) - taken
        taken |= others
        replaced[sha256] = [sha256, *sorted(others)]
    return files, also, replaced


def _landed(lake: Lake, hashes: list[str]) -> int:
    """How many rows of `interactions` came from contents with these hashes."""
    if not lake.exists("interactions"):
        return 0
    rows = lake.scan("interactions").filter(pl.col(schema.FILE).is_in(hashes)).select(pl.len())
    return int(rows.collect(engine="streaming").item())


def _require_rows(lake: Lake, config: SourcesConfig, files: dict[str, RawFile], replaced: dict[str, list[str]]) -> None:
    """Raises DataError if a name has far more rows in the lake, from earlier contents, than its file has now.

    Such a name may have been used for one log after another: then the rows of the others would be lost.
    """
    for sha256, file in files.items():
        landed = _landed(lake, replaced[sha256][1:]) if len(replaced[sha256]) > 1 else 0
        rows = sources.count_rows(file.path, config.interactions) if landed else None
        if landed > 2 * (rows or 0):
            raise DataError(
                f"'{file.path}' has {landed:,} rows in the lake, from {len(replaced[sha256]) - 1} earlier contents, and holds "
                f"{rows or 0:,} now; if the name was used for one log after another, the earlier rows would be lost. Nothing was changed; "
                "add --fewer to replace them all the same"
            )
