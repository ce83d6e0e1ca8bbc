"""Takes new raw files into the lake."""

from datetime import date

import polars as pl
from prefect import get_run_logger, task

from dealrec_core import schema
from dealrec_core.ingest import again, interactions, item_files, replay
from dealrec_core.ingest.again import Correction
from dealrec_core.ingest.preview import untitled_warning
from dealrec_core.lake import Lake, lock
from dealrec_core.lake.ledger import IngestReport
from dealrec_core.lake.nights import Fact, Manifest, Night, Snapshot
from dealrec_core.settings import Config
from tasks import shards
from tasks.stage import stage
from tasks.tonight import Tonight


@stage("ingest")
def ingest(tonight: Tonight) -> Snapshot:
    """Writes every row up to the night's day that no night took before to `interactions`, `items`, `quarantine` and `files`."""
    config, lake, manifest = tonight.config, tonight.lake, tonight.night.manifest
    with shards.engine(config.run, name="raw files") as over:
        taken = interactions.ingest(
            lake, config.sources, through=manifest.day, partition=config.lake.partition, over=over
        )
    item_files.ingest_items(lake, config.sources)
    books = _books(lake, before=manifest.versions["files"])
    report = books.filter(kind="interactions")
    inserted = int(report["inserted"].sum())
    version = lake.version("interactions")
    rows = lake.scan("interactions", version).select(pl.len()).collect().item()
    untitled, items = item_files.untitled(lake) if config.sources.items and rows else (0, 0)
    untitled_items = untitled_warning(untitled, items, config.sources)
    for warning in filter(None, [*taken.warnings, *again.corrected(lake, report), untitled_items]):
        get_run_logger().warning(warning)
    taken_again = interactions.times_taken_again(lake)
    facts: dict[str, Fact] = {
        "files": len(report),
        "rows read": int(report["rows"].sum()),
        "rows new": inserted,
        "duplicates": int(report["duplicates"].sum()),
        "quarantined": int(books["quarantined"].sum()),
        "filtered": int(report["filtered"].sum()),
        "postponed": int(report["postponed"].sum()),
        "items new or changed": int(books.filter(kind="items")["inserted"].sum()),
        "items without title": untitled,
        "items version": lake.version("items"),
        "quarantine version": lake.version("quarantine"),
        "rows in the lake": rows,
        "empty": rows == 0 or (inserted == 0 and _nothing_to_redo(manifest, tonight.night.earlier, rows, taken_again)),
        "files taken again": taken_again,
        **({"warnings": "; ".join(taken.warnings)} if taken.warnings else {}),
    }
    return Snapshot(stage="ingest", table="interactions", version=version, rows=inserted, facts=facts)


@task
def take_again(config: Config, patterns: list[str], through: date, *, fewer: bool) -> Correction:
    """Replaces the earlier rows of files by their present rows, up to the day, or the day of the last ingest if that is later.

    Raises:
        NightBusy: a night holds the lake.
    """
    lake = Lake(config.lake.root)
    through, partition = max([through, *again.days(lake)]), config.lake.partition
    with lock(lake, home=config.run.home), shards.engine(config.run, name="raw files") as over:
        report = again.again(
            lake, config.sources, patterns, through=through, partition=partition, fewer=fewer, over=over
        )
    get_run_logger().info(
        "%d files read again: %d rows withdrawn, %d written; the next night makes samples of them",
        len(report.files), report.withdrawn, report.inserted,
    )  # fmt: skip
    return report


@task
def replay_quarantine(config: Config, through: date) -> IngestReport:
    """Reads quarantined rows of interactions again; good ones up to the day are written.

    Raises:
        NightBusy: a night holds the lake.
    """
    lake = Lake(config.lake.root)
    with lock(lake, home=config.run.home):
        report = replay.replay(lake, config.sources, through=through, partition=config.lake.partition)
    get_run_logger().info(
        "%d quarantined rows read again: %d written, %d were there already, %d are still bad",
        report.rows, report.inserted, report.duplicates, report.quarantined,
    )  # fmt: skip
    return report


def _books(lake: Lake, *, before: int) -> pl.DataFrame:
    """The books of the files that this night took, also those it took before it was killed and started again."""
    if not lake.exists("files"):
        return pl.DataFrame(schema=schema.FILES)
    books = lake.scan("files").collect()
    if before < 0:
        return books
    return books.join(lake.scan("files", before).collect(), on=[schema.FILE, "kind", "through"], how="anti")


def _nothing_to_redo(manifest: Manifest, earlier: list[Night], rows: int, taken_again: int) -> bool:
    """Whether a finished night with the same settings and code saw the same log, which only grows unless files are read again."""
    return any(
        night.finished
        and night.manifest.settings == manifest.settings
        and night.manifest.code == manifest.code
        and (ingested := night.find("ingest")) is not None
        and ingested.facts["rows in the lake"] == rows
        and ingested.facts.get("files taken again", 0) == taken_again
        for night in earlier
    )
