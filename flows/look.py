"""Looks at a lake without changing it, unless `doctor` is run with `--repair`.

A function imports the modules that only it needs, because a second of a command is long.
"""

import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from pydantic import BaseModel

from dealrec_core import schema, settings
from dealrec_core.errors import DataError, DealrecError
from dealrec_core.lake import Lake, checkup, lock, promotions, scrub
from dealrec_core.lake.nights import STAGES, TABLES, Night, last_whole_day, nights, reopen, served_sha256
from dealrec_core.settings import Config
from flows.printing import counted, place
from tasks import base_models, registry_file
from tasks.forecast import forecast

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


class Plan(BaseModel):
    """The files that a night would read, and an estimate of its time."""

    files: list[str]
    """Paths of the interaction files of which it would take rows."""
    rows: int
    """Rows in these files, estimated from their sizes."""
    seconds: dict[str, float]
    """For each step its estimated time."""
    by: list[str]
    """Names of the earlier nights whose median this is; none where it follows from measured nights of other logs."""
    unknown: list[str]
    """Stages whose time is not known."""
    extrapolated: bool
    """Whether rows or settings lie outside of what was measured."""


def plan(config: str, overrides: list[str], day: date | None) -> Plan:
    """Returns the files that a night of this day would read, and its time as far as it can be told. None: yesterday."""
    loaded = settings.load(config, overrides)
    through = day or last_whole_day(datetime.now(UTC))
    from dealrec_core.ingest import row_counts, waiting

    lake = Lake(loaded.lake.root)
    files = waiting.untaken(lake, loaded.sources, through=through)
    rows = row_counts.estimate(files)
    ahead = forecast(loaded, nights(lake), rows)
    steps: dict[str, float] = {}
    for stage, seconds in ahead.seconds.items():
        step = STAGES[stage].removeprefix("dealrec ")
        steps[step] = steps.get(step, 0.0) + seconds
    return Plan(
        files=[file.path for file in files],
        rows=rows,
        seconds=steps,
        by=ahead.by,
        unknown=ahead.unknown,
        extrapolated=ahead.extrapolated,
    )


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
    fix: str | None = None
    """The next step, where something is wrong."""


FIXES = {
    "interactions": "correct [sources.interactions] of the settings file; `dealrec doctor --sources` shows how the rows would be stored",
    "items": "correct [sources.items] of the settings file; `dealrec doctor --sources` shows how the rows would be stored",
    "lake": "allow this user to write to lake.root, or set lake.root to another place",
    "registry": "do what the line above says; otherwise start MLflow again (`make up`), or correct [registry] of the settings file",
    "device": "set run.device to auto, or install the driver of the GPU",
    "base model": "run `dealrec get-model NAME`, or set language_model.base_model = 'embedded', which needs no model from outside",
    "scrub": "`dealrec doctor --repair` repairs what can be repaired",
    "damage": "`dealrec doctor --repair` repairs what can be repaired",
}
"""The next step for every check."""


def doctor(config: str, overrides: list[str], *, repair: bool = False) -> list[Check]:
    """Whether a night could run: sources, lake and registry answer, the aliases say what the promotions say, no file is damaged.

    repair: whether damage in the lake is repaired first, where it can be, and MLflow is told where a moved folder lies now.

    Raises:
        NightBusy: a lake to repair is in use.
    """
    loaded = settings.load(config, overrides)
    lake = Lake(loaded.lake.root)
    if repair:
        with lock(lake, home=loaded.run.home), lock(lake, home=loaded.run.home, name="upkeep"):
            checkup.repair(lake, checkup.damages(lake))
            registry_file.follow_move(loaded.registry)
    looks = {
        "interactions": _interactions,
        "items": _items,
        "lake": _lake,
        "registry": _registry,
        "device": _device,
        "base model": base_models.look,
    }
    checks = [_check(what, look, loaded) for what, look in looks.items()]
    if (scrubbed := scrub.last(lake)) is not None:
        checks.append(_checked("scrub", not scrubbed.damages, str(scrubbed)))
    return [*checks, *(_checked("damage", False, str(damage)) for damage in checkup.damages(lake))]


def first_rows(config: str, overrides: list[str]) -> "Look":
    """The first rows of the raw files as they would be stored, and what would stop a night."""
    from dealrec_core.ingest.preview import look

    return look(settings.load(config, overrides).sources, today=datetime.now(UTC).date())


def _check(what: str, look: Callable[[Config], str], config: Config) -> Check:
    try:
        return _checked(what, True, look(config))
    except DealrecError as error:
        return _checked(what, False, str(error))


def _checked(what: str, ok: bool, state: str) -> Check:
    return Check(what=what, ok=ok, state=state, fix=None if ok else FIXES[what])


def _interactions(config: Config) -> str:
    """The first rows of the first file, read with the mapping of the settings."""
    from dealrec_core.ingest import preview, sources

    first = preview.preview(config.sources, files=1, rows=1)[0]
    if first.quarantined > config.sources.max_bad_fraction * first.records:
        reason = first.bad[schema.REASON][0]
        raise DealrecError(
            f"{first.quarantined:,} of the first {first.records:,} rows of {place(first.file.path)} are bad: {reason}"
        )
    files = sources.find(config.sources.root, config.sources.interactions.files)
    return f"{counted(len(files), 'file')}; the first {first.records:,} rows of {place(first.file.path)} can be read"


def _items(config: Config) -> str:
    """The first titles, read with the mapping of the settings."""
    items = config.sources.items
    if items is None:
        return "the settings name no files of items, so the model reads ids instead of titles"
    from dealrec_core.ingest import item_files, sources

    files = sources.find(config.sources.root, items.files)
    if not files:
        raise DealrecError(f"no file in '{config.sources.root}' matches {items.files}")
    parsed = item_files.parsed(files[0], "", items, batches=1)
    item_files.check(parsed, config.sources, files[0])
    titles = parsed.filter(pl.col(schema.REASON).is_null() & (pl.col(schema.TITLE) != ""))
    if titles.is_empty():
        raise DealrecError(f"no item of {files[0].path} has a title in column '{items.title}'")
    return f"{counted(len(files), 'file')}; {place(files[0].path)} has titles such as '{titles[schema.TITLE][0]}'"


def _lake(config: Config) -> str:
    lake = Lake(config.lake.root)
    lake.write_bytes("doctor.txt", b"written by dealrec doctor")
    tables = sum(lake.exists(table) for table in TABLES)
    return f"{lake.root} can be written; {tables} tables, {len(nights(lake))} nights"


def _registry(config: Config) -> str:
    store: Any = registry_file
    if not registry_file.can_read(config.registry):
        from tasks import registry as store  # MLflow takes seconds to import
    store.require_experiment(config.registry)
    registry_file.require_artifacts(config.registry)
    lake = Lake(config.lake.root)
    present, champion = store.aliases(config.registry)[0].get(registry_file.CHAMPION), promotions.champion(lake)
    version = store.version_of(config.registry, champion, served_sha256(lake, champion)) if champion else None
    if champion and version is None:
        raise DealrecError(
            f"the champion, version {champion.version} of night {champion.night}, is not in '{config.registry.model}' at "
            f"{config.registry.tracking_uri}; {registry_file.ADVICE}"
        )
    if present != version:
        message = f"the alias champion is on version {present}, but promotions has version {version}; the next night moves the alias"
        raise DealrecError(message)
    return f"{config.registry.tracking_uri} answers; {f'version {version} is champion' if version else 'there is no champion yet'}"


def _device(config: Config) -> str:
    """The device that a night computes on, as the driver tells; importing torch to ask would take seconds."""
    driver = shutil.which("nvidia-smi")
    if config.run.device == "cuda" and driver is None:
        message = "run.device is 'cuda', but this machine has no nvidia-smi; install the driver or use 'auto'"
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
