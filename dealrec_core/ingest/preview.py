"""Shows which rows of raw files would be written and which would not, without a lake: a first look at a new mapping."""

from dataclasses import dataclass

import polars as pl

from dealrec_core import schema
from dealrec_core.ingest import events, sources
from dealrec_core.ingest.delivery import raw_columns, sort_out
from dealrec_core.ingest.sources import RawFile
from dealrec_core.settings.sources import SourcesConfig


@dataclass(frozen=True)
class Preview:
    """The first block of one raw file, divided into good and bad rows."""

    file: RawFile
    records: int
    """Records of the block."""
    filtered: int
    landing: pl.DataFrame
    """The first rows that would be written, as they would be."""
    quarantined: int
    bad: pl.DataFrame
    """The first rows that would go to quarantine: row, column, reason, raw."""


def preview(config: SourcesConfig, *, files: int, rows: int) -> list[Preview]:
    """Returns `rows` good and bad rows from the first block of each of the first files; nothing is written.

    Raises:
        SourceError: no file matches, or one cannot be read.
        SettingsError: a mapped column is not there, or the filter makes no sense.
    """
    present = sources.find(config.root, config.interactions.files)
    if not present:
        raise sources.no_file(config)
    return [_preview(file, config, rows) for file in present[:files]]


def _preview(file: RawFile, config: SourcesConfig, rows: int) -> Preview:
    source, constants = config.interactions, sources.folder_values(file.path)
    batch = next(sources.batches(file.path, columns=raw_columns(source, constants), options=source), None)
    if batch is None:
        return Preview(file, 0, 0, pl.DataFrame(schema=events.EVENTS), 0, pl.DataFrame(schema=events.BAD_ROWS))
    checked = sort_out(batch, source, constants)
    good, filtered, bad = checked.good, checked.filtered, checked.bad
    landing = good.head(rows).drop(schema.EVENT_ID) if source.event_id is None else good.head(rows)
    return Preview(file, batch.frame.height, filtered, landing, bad.height, bad.head(rows))
