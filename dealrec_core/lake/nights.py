"""A night is a manifest: its inputs are fixed when it opens, and every finished stage leaves a record.

Starting the same night again continues it; a finished night is a no-op. Everything lies below `nights/<night>/` in the
lake as small JSON files, each written in one atomic step, so a killed night leaves whole records or none.
"""

import hashlib
import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from dealrec_core.errors import DataError
from dealrec_core.lake import Lake
from dealrec_core.settings import Config
from dealrec_core.settings.moved import translated
from dealrec_core.settings.run import RunConfig

STAGES = {
    "ingest": "dealrec ingest",
    "samples": "dealrec ingest",
    "surrogate": "dealrec retrain",
    "base_model": "dealrec score",
    "influence": "dealrec score",
    "effort": "dealrec score",
    "coreset": "dealrec select",
    "fine_tune": "dealrec fine-tune",
    "evaluation": "dealrec evaluate",
    "verdict": "dealrec evaluate",
    "promotion": "dealrec promote",
}
"""Every stage in order, and the command that runs it alone."""

PLACE = {"home", "device", "engine", "ray_address"}
"""Of RunConfig: what a night runs on, which makes no other night and may change while it is continued."""

Fact = str | int | float | bool | None


class Snapshot(BaseModel):
    """What a stage left behind: where it is, and the few facts worth showing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    table: str | None = None
    version: int | None = None
    path: str | None = None
    """Folder or file below the lake's root."""
    sha256: str | None = None
    """Of everything at `path`."""
    rows: int | None = None
    facts: dict[str, Fact] = Field(default_factory=dict)
    """Counts, metrics and short names, ready to be shown."""
    seconds: float = 0.0
    device: str | None = None
    """Where the stage computed: cpu or cuda."""


class Champion(BaseModel):
    """The model in charge when the night opened."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    night: str
    bundle: str
    """Folder below the lake's root."""
    version: str
    """Version of the registered model."""
    trained_through: datetime
    """Nothing at or after this moment was seen in training."""


class Manifest(BaseModel):
    """Everything a night depends on, fixed when it opens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    night: str
    day: date
    settings: Annotated[Config, BeforeValidator(translated)]
    code: str
    """Hash over the sources of dealrec_core, tasks and flows."""
    commit: str | None
    """Git commit of the checkout, None outside one."""
    versions: dict[str, int]
    """Lake table versions at the start, -1 for a table that did not exist."""
    champion: Champion | None
    opened_at: datetime


@dataclass(frozen=True)
class Night:
    """One opened night: its manifest, its lake and its stage records."""

    manifest: Manifest
    lake: Lake

    @property
    def name(self) -> str:
        """For example 2016-10-16-3fa9c1."""
        return self.manifest.night

    @property
    def day(self) -> date:
        """The last day whose rows this night takes."""
        return self.manifest.day

    @property
    def config(self) -> Config:
        """Settings as they were when the night opened, but for what it runs on."""
        return self.manifest.settings

    def find(self, stage: str) -> Snapshot | None:
        """The record of a finished stage, None when it has not finished."""
        path = _record(self.name, stage)
        return Snapshot.model_validate_json(self.lake.read_bytes(path)) if self.lake.exists_path(path) else None

    def need(self, stage: str) -> Snapshot:
        """The record of a stage that must have finished.

        Raises:
            DataError: it has not; the message names the command that runs it.
        """
        found = self.find(stage)
        if found is None:
            raise DataError(
                f"stage '{stage}' of night {self.name} has not finished; run `{STAGES[stage]} --day {self.day}`"
            )
        return found

    def record(self, snapshot: Snapshot) -> Snapshot:
        """Marks a stage as finished."""
        self.lake.write_bytes(_record(self.name, snapshot.stage), snapshot.model_dump_json(indent=1).encode())
        return snapshot

    def snapshots(self) -> list[Snapshot]:
        """The finished stages, in order."""
        return [found for stage in STAGES if (found := self.find(stage))]

    @property
    def finished(self) -> bool:
        """Whether the night has nothing left to do: its last stage ran, or its day was empty."""
        ingested = self.find("ingest")
        return self.find("promotion") is not None or bool(ingested and ingested.facts.get("empty"))


TABLES = (
    "interactions",
    "items",
    "files",
    "quarantine",
    "samples",
    "influences",
    "efforts",
    "coresets",
    "evaluations",
    "promotions",
)


def open_night(config: Config, day: date, *, lake: Lake, champion: Champion | None, now: datetime) -> Night:
    """Continues the night of this day, settings and code, or opens it and fixes its inputs."""
    name = night_name(config, day)
    if lake.exists_path(_manifest(name)):
        return reopen(name, lake, run=config.run)
    manifest = Manifest(
        night=name,
        day=day,
        settings=config,
        code=code_fingerprint(),
        commit=_commit(),
        versions={table: lake.version(table) for table in TABLES},
        champion=champion,
        opened_at=now,
    )
    lake.write_bytes(_manifest(name), manifest.model_dump_json(indent=1).encode())
    return Night(manifest, lake)


def reopen(name: str, lake: Lake, *, run: RunConfig | None = None) -> Night:
    """The night of that name, as it was opened, but for what it runs on: that is as in `run` where it is given.

    Raises:
        DataError: this lake has no such night.
    """
    if not lake.exists_path(_manifest(name)):
        raise DataError(f"no night '{name}' in {lake.root}; `dealrec status` lists the nights")
    manifest = Manifest.model_validate_json(lake.read_bytes(_manifest(name)))
    if run is not None:
        moved = manifest.settings.run.model_copy(update={field: getattr(run, field) for field in PLACE})
        manifest = manifest.model_copy(update={"settings": manifest.settings.model_copy(update={"run": moved})})
    return Night(manifest, lake)


def nights(lake: Lake) -> list[Night]:
    """Every night of the lake, in the order in which they were opened."""
    names = {path.split("/")[1] for path in lake.list_paths("nights") if path.endswith("/manifest.json")}
    return sorted((reopen(name, lake) for name in names), key=lambda night: night.manifest.opened_at)


def night_name(config: Config, day: date) -> str:
    """Day plus six hex digits over settings and code: what changes either is another night.

    Where things are kept (home, lake, registry) and looked after, and what they run on does not make another night.
    """
    settings = config.model_dump_json(exclude={"registry": True, "upkeep": True, "run": PLACE, "lake": {"root"}})
    return f"{day.isoformat()}-{fingerprint([settings, code_fingerprint()])[:6]}"


def fingerprint(parts: Iterable[str]) -> str:
    """sha256 hex over the parts; the borders between parts count."""
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()


@cache
def code_fingerprint() -> str:
    """Hash over the Python sources that a night runs, so that a changed program is another night."""
    root = Path(__file__).resolve().parent.parent
    sources = sorted(path for package in ("dealrec_core", "tasks", "flows") for path in (root / package).rglob("*.py"))
    return fingerprint(f"{path.relative_to(root)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in sources)


def _record(night: str, stage: str) -> str:
    return f"nights/{night}/stages/{stage}.json"


def _manifest(night: str) -> str:
    return f"nights/{night}/manifest.json"


def _commit() -> str | None:
    root = Path(__file__).resolve().parent.parent
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
