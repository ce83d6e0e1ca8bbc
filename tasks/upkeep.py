"""Upkeep as Prefect tasks: files joined beside a running night, old ones removed when none runs."""

import logging
from datetime import UTC, datetime

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from pydantic import BaseModel, ConfigDict

from dealrec_core.errors import NightBusy, RegistryError, plain
from dealrec_core.lake import Lake, erasure, lock, scrub, upkeep
from dealrec_core.lake.scrub import Scrub
from dealrec_core.lake.upkeep import TableReport
from dealrec_core.settings import Config
from tasks import markup, registry


class UpkeepReport(BaseModel):
    """The state of every table, and what upkeep has done."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    tables: list[TableReport]
    vacuumed: bool
    message: str
    scrub: str
    """Result of the last scrub."""


@task(name="compact", retries=2, retry_delay_seconds=10, cache_policy=NO_CACHE)
def compact(config: Config) -> dict[str, int]:
    """Joins small files of every table; how many were joined. Needs no lock on the lake."""
    lake = Lake(config.lake.root)
    joined = {table: upkeep.compact(lake, table, file_mib=config.upkeep.file_mib) for table in upkeep.tables(lake)}
    get_run_logger().info("files joined: %s", joined)
    return joined


@task(name="vacuum", retries=2, retry_delay_seconds=10, cache_policy=NO_CACHE)
def vacuum(config: Config) -> dict[str, int]:
    """Removes old files of every table and writes checkpoints; how many were removed.

    Raises:
        NightBusy: a night is running.
    """
    lake = Lake(config.lake.root)
    with lock(lake, home=config.run.home):
        pins, hours = pins_of(config), config.upkeep.retention_hours
        removed = {}
        for table in upkeep.tables(lake):
            removed[table] = upkeep.vacuum(lake, table, keep=pins.get(table, set()), retention_hours=hours)
            upkeep.settle(lake, table)
        get_run_logger().info("files removed: %s", removed)
        return removed


def look_after(config: Config) -> UpkeepReport:
    """All of it: files are joined, then removed unless a night is running; ends with a report of every table."""
    lake = Lake(config.lake.root)
    with lock(lake, home=config.run.home, name="upkeep"):
        joined = compact(config)
        try:
            removed, message = vacuum.with_options(retries=0)(config), "done"
        except NightBusy as error:
            removed, message = None, f"nothing was removed: {error}"
        pins = pins_of(config)
        gone = removed or {}
        scrubbed = str(scrubbed_lake(config))
        tables = [
            upkeep.look(lake, table, pins=pins.get(table, set()), joined=count, removed=gone.get(table, 0))
            for table, count in joined.items()
        ]
    report = UpkeepReport(
        at=datetime.now(UTC), tables=tables, vacuumed=removed is not None, message=message, scrub=scrubbed
    )
    create_markdown_artifact(markdown(report), key="upkeep", description=message)
    return report


def scrubbed_lake(config: Config) -> Scrub:
    """Returns the result of the last scrub. A new scrub runs first where that is too old or saw damage."""
    lake, now = Lake(config.lake.root), datetime.now(UTC)
    before = None if scrub.is_due(lake, now=now, days=config.upkeep.scrub_days) else scrub.last(lake)
    found = before or scrub.scrub(lake, now=now)
    get_run_logger().log(logging.ERROR if found.damages else logging.INFO, "scrub: %s", plain(found))
    return found


def pins_of(config: Config) -> dict[str, set[int]]:
    """The versions that must stay; where MLflow does not answer, those of every night with a decision."""
    try:
        registered = registry.registered_nights(config.registry)
    except RegistryError as error:
        get_run_logger().warning("every night's versions stay: %s", error)
        registered = None
    lake = Lake(config.lake.root)
    pins = upkeep.pinned(lake, registered=registered, newest=config.upkeep.nights)
    first = erasure.forgotten(lake)
    return {table: {version for version in pinned if version >= first.get(table, 0)} for table, pinned in pins.items()}


def markdown(report: UpkeepReport) -> str:
    """The report as a small Markdown page."""
    names = [name.replace("_", " ") for name in TableReport.model_fields]
    rows = [
        f"| {' | '.join(markup.markdown(value) for value in table.model_dump().values())} |" for table in report.tables
    ]
    head = f"# Upkeep: {markup.markdown(report.message)}\n\n| {' | '.join(names)} |\n|{'---|' * len(names)}"
    return "\n".join([head, *rows, "", f"Scrub: {markup.markdown(report.scrub)}."])
