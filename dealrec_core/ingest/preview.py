"""How raw files would land, without a lake: for the first look at a new mapping."""

from dataclasses import dataclass

import polars as pl

from dealrec_core import schema
from dealrec_core.errors import SourceError
from dealrec_core.ingest import events, sources
from dealrec_core.ingest.load import mapping_of, sort_out
from dealrec_core.ingest.sources import RawFile
from dealrec_core.settings.sources import SourcesConfig


@dataclass(frozen=True)
class Preview:
    """The beginning of one raw file, sorted out."""

    file: RawFile
    records: int
    """Looked at."""
    filtered: int
    landing: pl.DataFrame
    """The first rows as they would land."""
    quarantined: int
    bad: pl.DataFrame
    """The first rows that would not: row, column, reason, raw."""


def preview(config: SourcesConfig, *, files: int, rows: int) -> list[Preview]:
    """The first block of the first files, `rows` good and bad rows of each; nothing is written.

    Raises:
        SourceError: no file matches, or one cannot be read.
        SettingsError: a mapped column is not there, or the filter makes no sense.
    """
    found = sources.find(config.root, config.interactions.files)
    if not found:
        raise SourceError(
            f"no file in '{config.root}' matches {config.interactions.files}; set sources.interactions.files"
        )
    return [_preview(file, config, rows) for file in found[:files]]


def _preview(file: RawFile, config: SourcesConfig, rows: int) -> Preview:
    source = config.interactions
    mapping, constants = mapping_of(source), sources.folder_values(file.path)
    columns = [raw for raw in mapping.values() if raw is not None and raw not in constants]
    batch = next(sources.batches(file.path, columns=columns, options=source), None)
    if batch is None:
        return Preview(file, 0, 0, pl.DataFrame(schema=events.EVENTS), 0, pl.DataFrame(schema=events.BAD_ROWS))
    wanted, filtered, bad = sort_out(batch, source, mapping, constants)
    landing = wanted.head(rows).drop(schema.EVENT_ID) if source.event_id is None else wanted.head(rows)
    return Preview(file, batch.frame.height, filtered, landing, bad.height, bad.head(rows))
