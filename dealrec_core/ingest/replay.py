"""Reads bad rows of interactions again, after the mapping or the program was corrected."""

from datetime import date

import polars as pl

from dealrec_core import schema
from dealrec_core.errors import SourceError
from dealrec_core.ingest import sources
from dealrec_core.ingest.delivery import Delivery, Partition, Reading
from dealrec_core.ingest.landing import land
from dealrec_core.ingest.sources import RawFile
from dealrec_core.ingest.spill import Spill
from dealrec_core.lake import Lake, erased, ledger
from dealrec_core.lake.ledger import IngestReport
from dealrec_core.settings.sources import SourcesConfig


def replay(lake: Lake, config: SourcesConfig, *, through: date, partition: Partition) -> IngestReport:
    """Writes quarantined rows that are good now to `interactions` and removes them from quarantine; bad rows stay there once.

    Rows are read from their raw files. A replay that was killed between the two commits is simply run again: the rows that are
    in `interactions` count as duplicates then.

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
        delivery = Delivery(config.interactions, through, partition, spill, erased.erased(lake))
        for (sha256,), rows in quarantined.partition_by(schema.FILE, as_dict=True).items():
            before = table.transaction_version(f"replay/{sha256}") if table else None
            delivery.read(files[str(sha256)], str(sha256), before=before, only=rows[schema.ROW])
        delivery.estimate()
        total = sum(map(ledger.report, land(lake, delivery)), start=total)
    for reading in delivery.readings:
        _replace_quarantined(lake, reading)
    return total


def _quarantined(lake: Lake) -> pl.DataFrame:
    if not lake.exists("quarantine"):
        return pl.DataFrame(schema=schema.QUARANTINE)
    rows = lake.scan("quarantine").collect()
    items = lake.scan("files").filter(pl.col("kind") == "items").select(schema.FILE).collect()
    return rows.filter(~pl.col(schema.FILE).is_in(items[schema.FILE].implode()))


def _raw_files(config: SourcesConfig, quarantined: pl.DataFrame) -> dict[str, RawFile]:
    """The raw file of each hash, wherever it is now."""
    hashes, paths = set(quarantined[schema.FILE]), set(quarantined["path"])
    present = sources.find(config.root, config.interactions.files)
    files: dict[str, RawFile] = {}
    for file in sorted(present, key=lambda file: file.path not in paths):  # where they were is the best guess
        if len(files) == len(hashes):
            break
        sha256 = sources.content_hash(file.path)
        if sha256 in hashes:
            files.setdefault(sha256, file)
    for sha256, path in quarantined.select(schema.FILE, "path").unique().iter_rows():
        if sha256 not in files:
            raise SourceError(
                f"'{path}', which has quarantined rows, is gone or was changed (sha256 {sha256[:12]}); put it back below "
                f"'{config.root}'; nothing was replayed"
            )
    return files


def _replace_quarantined(lake: Lake, reading: Reading) -> None:
    """Leaves only those rows of a file in quarantine that were bad again."""
    if reading.is_changing:
        return
    bad = [
        rows.with_columns(pl.lit(reading.sha256).alias(schema.FILE), pl.lit(reading.file.path).alias("path")).select(
            schema.QUARANTINE.names()
        )
        for rows in reading.bad
    ]
    rows = pl.concat(bad) if bad else pl.DataFrame(schema=schema.QUARANTINE)
    lake.replace("quarantine", rows, schema=schema.QUARANTINE, where=f"{schema.FILE} = '{reading.sha256}'")
