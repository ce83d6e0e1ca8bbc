"""Reads bad rows of interactions again, after the mapping or the program was corrected."""

from datetime import date

import polars as pl

from dealrec_core import schema
from dealrec_core.errors import SourceError
from dealrec_core.ingest import sources
from dealrec_core.ingest.landing import land
from dealrec_core.ingest.load import Load, Partition, Reading
from dealrec_core.ingest.sources import RawFile
from dealrec_core.ingest.spill import Spill
from dealrec_core.lake import Lake, erased, ledger
from dealrec_core.lake.ledger import IngestReport
from dealrec_core.settings.sources import SourcesConfig


def replay(lake: Lake, config: SourcesConfig, *, through: date, partition: Partition) -> IngestReport:
    """Lands quarantined rows that are good now, and takes them out of quarantine; those that are still bad stay, once.

    A row is read from its raw file. Killed after the rows landed and before they left quarantine, it is simply run again:
    they are duplicates then.

    Raises:
        SourceError: a raw file is gone or was changed; nothing was replayed.
    """
    ledger.heal(lake)
    quarantined = _quarantined(lake)
    total = IngestReport()
    if quarantined.is_empty():
        return total
    table = lake.open("interactions")
    files = _raw_files(config, quarantined)
    with Spill() as spill:
        load = Load(config.interactions, through, partition, spill, erased.erased(lake))
        for (sha256,), rows in quarantined.partition_by(schema.FILE, as_dict=True).items():
            before = table.transaction_version(f"replay/{sha256}") if table else None
            load.read_again(files[str(sha256)], str(sha256), rows[schema.ROW], before=before)
        for row in land(lake, load):
            counts = {name: row[name] for name in IngestReport.model_fields if name != "files"}
            total += IngestReport(files=[row["path"]], **counts)
    for reading in load.readings:
        _leave_in_quarantine(lake, reading)
    return total


def _quarantined(lake: Lake) -> pl.DataFrame:
    if not lake.exists("quarantine"):
        return pl.DataFrame(schema=schema.QUARANTINE)
    rows = lake.scan("quarantine").collect()
    items = lake.scan("files").filter(pl.col("kind") == "items").select(schema.FILE).collect()
    return rows.filter(~pl.col(schema.FILE).is_in(items[schema.FILE].implode()))


def _raw_files(config: SourcesConfig, quarantined: pl.DataFrame) -> dict[str, RawFile]:
    """The raw file of each hash, wherever it lies now."""
    wanted = set(quarantined[schema.FILE])
    paths = set(quarantined["path"])
    present = sources.find(config.root, config.interactions.files)
    found: dict[str, RawFile] = {}
    for file in sorted(present, key=lambda each: each.path not in paths):  # where they were is the best guess
        if len(found) == len(wanted):
            break
        sha256 = sources.content_hash(file.path)
        if sha256 in wanted:
            found.setdefault(sha256, file)
    for sha256, path in quarantined.select(schema.FILE, "path").unique().iter_rows():
        if sha256 not in found:
            raise SourceError(
                f"'{path}', which has quarantined rows, is gone or was changed (sha256 {sha256[:12]}); put it back below "
                f"'{config.root}'; nothing was replayed"
            )
    return found


def _leave_in_quarantine(lake: Lake, reading: Reading) -> None:
    if reading.is_changing:
        return
    bad = [
        rows.with_columns(pl.lit(reading.sha256).alias(schema.FILE), pl.lit(reading.file.path).alias("path")).select(
            schema.QUARANTINE.names()
        )
        for rows in reading.bad
    ]
    still = pl.concat(bad) if bad else pl.DataFrame(schema=schema.QUARANTINE)
    lake.replace("quarantine", still, schema=schema.QUARANTINE, where=f"{schema.FILE} = '{reading.sha256}'")
