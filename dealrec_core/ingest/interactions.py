"""Ingests raw interactions into the lake, every row once.

Counts balance for every file: rows = earlier + inserted + duplicates + quarantined + filtered + postponed.

A delivery of files is read (delivery.py), held back on disk where it is large (spill.py) and committed (landing.py); the commit
records the hash of every file in it, so a killed ingest is simply run again.
"""

from datetime import date
from functools import partial

import polars as pl

from dealrec_core import schema
from dealrec_core.ingest import sources
from dealrec_core.ingest.delivery import Delivery, Partition, Shard
from dealrec_core.ingest.landing import AGAIN, land
from dealrec_core.ingest.raw.batch import ColumnMissing
from dealrec_core.ingest.spill import Spill
from dealrec_core.ingest.waiting import SHARD_BYTES, SHARD_FILES, Waiting, groups, waiting_files
from dealrec_core.lake import Lake, erased, ledger
from dealrec_core.lake.erased import Erased
from dealrec_core.lake.ledger import IngestReport
from dealrec_core.lake.parallel import Over
from dealrec_core.settings.sources import InteractionSource, SourcesConfig

DELIVERY_BYTES, DELIVERY_FILES = 8 * 2**30, 10_000
"""Largest set of raw files that one commit holds."""


def ingest(
    lake: Lake, config: SourcesConfig, *, through: date, partition: Partition, over: Over | None = None
) -> IngestReport:
    """Writes every row up to the end of day `through` (UTC) that the lake does not have yet; later rows are postponed.

    over: maps the reading of files over other processes or machines, each of which then holds the rows of one shard; None
        reads here, in blocks.

    Raises:
        SourceError: the root cannot be read, or no file matches.
        SettingsError: a mapped column is in no file, or the filter makes no sense.
        DataError: too many rows are bad (sources.max_bad_fraction); nothing of their delivery was written.
    """
    ledger.heal(lake)
    waiting = waiting_files(lake, config, through=through, over=over)
    if waiting is None:
        raise sources.no_file(config)
    total = IngestReport()
    for files in groups(waiting, DELIVERY_BYTES, DELIVERY_FILES):
        total += land_files(lake, config, files, through=through, partition=partition, over=over)
    return total


def land_files(
    lake: Lake,
    config: SourcesConfig,
    files: list[Waiting],
    *,
    through: date,
    partition: Partition,
    over: Over | None = None,
    replaced: dict[str, list[str]] | None = None,
) -> IngestReport:
    """Writes the rows of one delivery, and returns what became of them; the rest is as for `ingest`.

    replaced: for files that are read again, the hashes of the contents whose rows go, by the hash of each file.
    """
    with Spill() as spill:
        delivery = Delivery(
            config.interactions, through, partition, spill, erased.erased(lake), replaced=replaced or {}
        )
        if over is None:
            _read(delivery, files)
        else:
            _read_elsewhere(delivery, files, over)
        _check_mapping(delivery)
        delivery.estimate()
        has_events = lake.exists("interactions") and not replaced
        warnings = delivery.warnings(partial(_event_types, lake) if has_events else set)
        delivery.guard(config.max_bad_fraction, warnings, is_first=not has_events)
        return sum(map(ledger.report, land(lake, delivery)), start=IngestReport(warnings=warnings))


def _event_types(lake: Lake) -> set[str]:
    """The types of the events that the lake has."""
    types = lake.scan("interactions").select(pl.col(schema.EVENT_TYPE).unique()).collect(engine="streaming")
    return set(types[schema.EVENT_TYPE].drop_nulls())


def times_taken_again(lake: Lake) -> int:
    """Returns how often files were read again, each time with another log as the result."""
    table = lake.open("interactions")
    return (table.transaction_version(AGAIN) or 0) if table else 0


def _read(delivery: Delivery, files: list[Waiting]) -> None:
    """Reads all files; a file without a mapped column is bad as a whole."""
    for file, sha256, before in files:
        try:
            delivery.read(file, sha256, before=before)
        except ColumnMissing as error:
            delivery.give_up(error)


def _read_elsewhere(delivery: Delivery, files: list[Waiting], over: Over) -> None:
    read = partial(_shard, delivery.source, delivery.through, delivery.partition, delivery.erased)
    for shard in over(read, list(groups(files, SHARD_BYTES, SHARD_FILES))):
        delivery.merge(shard)


def _shard(source: InteractionSource, through: date, partition: Partition, gone: Erased, files: list[Waiting]) -> Shard:
    """Reads one group of files into a delivery of its own, and returns it in a form that can be sent."""
    with Spill() as spill:
        delivery = Delivery(source, through, partition, spill, gone)
        _read(delivery, files)
        return Shard(delivery.readings, list(spill.portions()), delivery.event_ids)


def _check_mapping(delivery: Delivery) -> None:
    """Raises ColumnMissing where a mapped column is in no file: then the mapping is wrong."""
    missing = [reading.missing for reading in delivery.readings]
    if all(missing) and missing[0] is not None:
        raise missing[0]
