"""Looks at a lake without changing it, unless `doctor` is asked to repair it.

What only one look needs is imported in it: a second of a command is long.
"""

import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from dealrec_core import settings
from dealrec_core.errors import DataError, DealrecError
from dealrec_core.lake import Lake, checkup, lock, promotions, scrub
from dealrec_core.lake.nights import TABLES, Night, last_whole_day, nights, reopen
from dealrec_core.settings import Config
from tasks import base_models

if TYPE_CHECKING:
    from dealrec_core.ingest.preview import Look


class NightLine(BaseModel):
    """One night in the list."""

    night: str
    stages: str
    rows_new: int | None
    coreset: int | None
    version: str | None
    outcome: str


class Status(BaseModel):
    """The nights, the champion and the table versions of a lake."""

    nights: list[NightLine]
    champion: str | None
    tables: dict[str, int]


def status(config: str, overrides: list[str]) -> Status:
    """The nights of the lake, the model in charge and the version of every table."""
    lake = Lake(settings.load(config, overrides).lake.root)
    champion = promotions.champion(lake)
    return Status(
        nights=[_line(night) for night in nights(lake)],
        champion=f"version {champion.version} of night {champion.night}" if champion else None,
        tables={table: lake.version(table) for table in TABLES if lake.exists(table)},
    )


def plan(config: str, overrides: list[str], day: date | None) -> list[str]:
    """Paths of the interaction files of which a night of this day (yesterday, the last whole day, when None) would take rows."""
    loaded = settings.load(config, overrides)
    through = day or last_whole_day(datetime.now(UTC))
    from dealrec_core.ingest import interactions

    return [file.path for file in interactions.untaken(Lake(loaded.lake.root), loaded.sources, through=through)]


def report(config: str, overrides: list[str], name: str | None, to: str, *, last: int = 1) -> str:
    """Writes the report of a night (the newest when None), or of the last ones, to a file; returns the nights' names.

    Raises:
        DataError: there is no such night, or none at all.
    """
    lake = Lake(settings.load(config, overrides).lake.root)
    all_nights = nights(lake)
    if not all_nights:
        raise DataError(f"no night in {lake.root} yet; run `dealrec nightly`")
    chosen = all_nights[-last:] if name is None else [reopen(name, lake)]
    from tasks.report.page import page, pages  # matplotlib takes a second to import

    Path(to).write_text(page(chosen[0]) if len(chosen) == 1 else pages(chosen), encoding="utf-8")
    return ", ".join(night.name for night in chosen)


class Check(BaseModel):
    """One thing that a night needs, and the state it is in."""

    what: str
    ok: bool
    state: str


def doctor(config: str, overrides: list[str], *, repair: bool = False) -> list[Check]:
    """Whether a night could run: sources, lake and registry answer, the aliases say what the promotions say, no file is damaged.

    repair: whether damage in the lake is repaired first, where it can be.

    Raises:
        NightBusy: a lake to repair is in use.
    """
    loaded = settings.load(config, overrides)
    lake = Lake(loaded.lake.root)
    if repair:
        with lock(lake, home=loaded.run.home), lock(lake, home=loaded.run.home, name="upkeep"):
            checkup.repair(lake, checkup.damages(lake))
    looks = {
        "sources": _sources,
        "lake": _lake,
        "registry": _registry,
        "device": _device,
        "base model": base_models.look,
    }
    checks = [_check(what, look, loaded) for what, look in looks.items()]
    if (scrubbed := scrub.last(lake)) is not None:
        checks.append(Check(what="scrub", ok=not scrubbed.damages, state=str(scrubbed)))
    return [*checks, *(Check(what="damage", ok=False, state=str(damage)) for damage in checkup.damages(lake))]


def first_rows(config: str, overrides: list[str]) -> "Look":
    """How the first rows of the raw files would land, and what would stop a night."""
    from dealrec_core.ingest.preview import look

    return look(settings.load(config, overrides).sources, today=datetime.now(UTC).date())


def _check(what: str, look: Callable[[Config], str], config: Config) -> Check:
    try:
        return Check(what=what, ok=True, state=look(config))
    except DealrecError as error:
        return Check(what=what, ok=False, state=str(error))


def _sources(config: Config) -> str:
    from dealrec_core.ingest import sources

    files = sources.find(config.sources.root, config.sources.interactions.files)
    if not files:
        raise DealrecError(f"no file in '{config.sources.root}' matches {config.sources.interactions.files}")
    first = next(sources.records(files[0].path, options=config.sources.interactions), None)
    columns = ", ".join(map(str, first.fields)) if first else "no record"
    return f"{len(files)} files; {files[0].path} has {columns}"


def _lake(config: Config) -> str:
    lake = Lake(config.lake.root)
    lake.write_bytes("doctor.txt", b"written by dealrec doctor")
    tables = sum(lake.exists(table) for table in TABLES)
    return f"{lake.root} can be written; {tables} tables, {len(nights(lake))} nights"


def _registry(config: Config) -> str:
    from tasks import champions, registry  # MLflow takes seconds to import, and no other look needs it

    registry.require_experiment(config.registry)
    lake = Lake(config.lake.root)
    present, champion = registry.aliases(config.registry)[0].get(registry.CHAMPION), promotions.champion(lake)
    version = champions.registered(config.registry, lake, champion) if champion else None
    if champion and version is None:
        raise DealrecError(
            f"the champion, version {champion.version} of night {champion.night}, is not in '{config.registry.model}' at "
            f"{config.registry.tracking_uri}; {champions.ADVICE}"
        )
    if present != version:
        message = f"alias champion is version {present}, the promotions say {version}; the next night heals it"
        raise DealrecError(message)
    return f"{config.registry.tracking_uri} answers; champion is {version or 'nobody yet'}"


def _device(config: Config) -> str:
    """The device that a night computes on, as the driver tells; importing torch to ask would take seconds."""
    driver = shutil.which("nvidia-smi")
    if config.run.device == "cuda" and driver is None:
        message = "run.device is 'cuda', and nvidia-smi is not on this machine; install the driver or use 'auto'"
        raise DealrecError(message)
    return "cuda" if driver and config.run.device != "cpu" else "cpu"


def _line(night: Night) -> NightLine:
    records = {snapshot.stage: snapshot for snapshot in night.snapshots()}
    outcome = "empty day" if night.finished else "unfinished: start it again to continue"
    if promotion := records.get("promotion"):
        outcome = promotions.outcome(promotion.facts)
    return NightLine(
        night=night.name,
        stages=f"{len(records)} done, last {list(records)[-1]}" if records else "none",
        rows_new=records["ingest"].rows if "ingest" in records else None,
        coreset=records["coreset"].rows if "coreset" in records else None,
        version=str(promotion.facts["version"]) if promotion else None,
        outcome=outcome,
    )
