"""Takes new raw files into the lake, and builds samples from what is there."""

from datetime import date, datetime
from typing import Literal

import polars as pl
from prefect import get_run_logger, task

from dealrec_core import schema
from dealrec_core.errors import DataError
from dealrec_core.ingest import interactions, item_files, replay
from dealrec_core.lake import Lake, lock
from dealrec_core.lake.ledger import IngestReport
from dealrec_core.lake.nights import Fact, Night, Snapshot, nights
from dealrec_core.samples import sample_table, split
from dealrec_core.samples.split import Boundaries
from dealrec_core.settings import Config
from tasks import shards
from tasks.stage import stage


@stage("ingest")
def take_new_files(night: Night) -> Snapshot:
    """Table `interactions` (and `items`, `quarantine`, `files`): every row up to the night's day that no night took before."""
    config = night.config
    with shards.engine(config.run, name="raw files") as over:
        interactions.ingest(night.lake, config.sources, through=night.day, partition=config.lake.partition, over=over)
    item_files.ingest_items(night.lake, config.sources)
    books = _books_of(night)
    report = books.filter(kind="interactions")
    inserted = int(report["inserted"].sum())
    version = night.lake.version("interactions")
    rows = night.lake.scan("interactions", version).select(pl.len()).collect().item()
    facts: dict[str, Fact] = {
        "files": len(report),
        "rows read": int(report["rows"].sum()),
        "rows new": inserted,
        "duplicates": int(report["duplicates"].sum()),
        "quarantined": int(books["quarantined"].sum()),
        "filtered": int(report["filtered"].sum()),
        "postponed": int(report["postponed"].sum()),
        "items new or changed": int(books.filter(kind="items")["inserted"].sum()),
        "items version": night.lake.version("items"),
        "quarantine version": night.lake.version("quarantine"),
        "rows in the lake": rows,
        "empty": rows == 0 or (inserted == 0 and _nothing_to_redo(night, rows)),
    }
    return Snapshot(stage="ingest", table="interactions", version=version, rows=inserted, facts=facts)


@stage("samples")
def build_samples(night: Night) -> Snapshot:
    """Table `samples`: every (history, next item) of the log, and the moments that split it for this night."""
    ingested = night.need("ingest")
    assert ingested.version is not None
    config = night.config.samples
    log = night.lake.scan("interactions", ingested.version)
    champion = night.manifest.champion
    bounds = split.boundaries(log, config, not_before=champion.trained_through if champion else None)
    update = sample_table.update(
        night.lake,
        log_version=ingested.version,
        length=config.history_length,
        before=night.manifest.versions["samples"],
    )
    if update.rows == 0:
        raise DataError("the log gives no sample: no user has two events; wait for more data or loosen the filter")
    table = night.lake.scan("samples", update.version)
    facts: dict[str, Fact] = {
        **{name: moment.isoformat() for name, moment in bounds.model_dump().items()},
        **{which: _count(table, bounds, which, config.mode) for which in split.SPLITS},
        "new or changed": update.written,
        "all made anew": update.is_rebuilt,
    }
    return Snapshot(stage="samples", table="samples", version=update.version, rows=update.rows, facts=facts)


def _count(table: pl.LazyFrame, bounds: Boundaries, which: split.Split, mode: Literal["sliding", "last"]) -> int:
    columns = table.select(schema.SAMPLE_ID, schema.USER_ID, schema.TIMESTAMP)
    count = split.split_lazily(columns, bounds, which, mode).select(pl.len())
    return int(count.collect(engine="streaming").item())


@task
def replay_quarantine(config: Config, through: date) -> IngestReport:
    """Quarantined rows of interactions are read again; good ones up to the day land.

    Raises:
        NightBusy: a night holds the lake.
    """
    lake = Lake(config.lake.root)
    with lock(lake, home=config.run.home):
        report = replay.replay(lake, config.sources, through=through, partition=config.lake.partition)
    get_run_logger().info(
        "%d quarantined rows read again: %d landed, %d were there already, %d are still bad",
        report.rows, report.inserted, report.duplicates, report.quarantined,
    )  # fmt: skip
    return report


def boundaries_of(night: Night) -> Boundaries:
    """The moments that split this night's samples."""
    facts = night.need("samples").facts
    return Boundaries(**{name: datetime.fromisoformat(str(facts[name])) for name in Boundaries.model_fields})


def samples_of(night: Night, which: split.Split) -> pl.DataFrame:
    """This night's train, validation or test samples, sorted by sample_id: the lake promises no order."""
    table = night.lake.scan("samples", night.need("samples").version).select(schema.SAMPLES.names())
    found = split.split_lazily(table, boundaries_of(night), which, night.config.samples.mode)
    return found.sort(schema.SAMPLE_ID).collect()


def _books_of(night: Night) -> pl.DataFrame:
    """The books of the files that this night took, also those it took before it was killed and started again."""
    if not night.lake.exists("files"):
        return pl.DataFrame(schema=schema.FILES)
    books = night.lake.scan("files").collect()
    before = night.manifest.versions["files"]
    if before < 0:
        return books
    return books.join(night.lake.scan("files", before).collect(), on=[schema.FILE, "kind", "through"], how="anti")


def _nothing_to_redo(night: Night, rows: int) -> bool:
    """Whether a finished night with the same settings and code saw the same log (which only grows)."""
    return any(
        earlier.finished
        and earlier.manifest.settings == night.config
        and earlier.manifest.code == night.manifest.code
        and (ingested := earlier.find("ingest")) is not None
        and ingested.facts["rows in the lake"] == rows
        for earlier in nights(night.lake)
        if earlier.name != night.name
    )
