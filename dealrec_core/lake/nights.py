"""A night: a manifest that fixes its inputs when it opens, and a record of every finished stage.

Starting the same night again continues it; a finished night is a no-op. Manifest and records are small JSON files below
`nights/<night>/` in the lake, each written in one atomic step, so a killed night leaves whole records or none.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache, cached_property
from typing import Annotated, TypeVar

import polars as pl
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from dealrec_core.errors import DataError, DealrecError, LakeError
from dealrec_core.lake import Lake, checkout, sums
from dealrec_core.lake.store import line
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
    "refit": "dealrec evaluate",
    "promotion": "dealrec promote",
}
"""Every stage in order, and the command that runs it alone."""

TABLES = (
    "interactions", "items", "files", "quarantine", "samples",
    "influences", "efforts", "coresets", "evaluations", "trials", "promotions",
)  # fmt: skip
"""The tables whose versions a manifest fixes."""

PLACE = {"home", "device", "engine", "ray_address"}
"""Fields of RunConfig that say where a night runs: they do not make it another night, and may change when it is continued."""

Content = TypeVar("Content", bound=BaseModel)
Fact = str | int | float | bool | None


class Snapshot(BaseModel):
    """The record of a finished stage: where its result is, and the few facts worth showing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    table: str | None = None
    version: int | None = None
    path: str | None = None
    """Folder or file below the lake's root."""
    sha256: str | None = None
    """Hash of everything at `path`."""
    rows: int | None = None
    facts: dict[str, Fact] = Field(default_factory=dict)
    """Counts, metrics and short names, ready to be shown."""
    seconds: float = 0.0
    device: str | None = None
    """The device that the stage computed on: cpu or cuda."""
    tables_sha256: str | None = None
    """Hash of the list of all data files of `versions` with their hashes; None in a record of an older program."""

    @property
    def versions(self) -> list[tuple[str, int]]:
        """The table versions that the stage made or used."""
        named = [(table, self.facts.get(f"{table} version")) for table in TABLES]
        versions = [(self.table, self.version), *named]
        return [(table, version) for table, version in versions if table and isinstance(version, int) and version >= 0]


class Champion(BaseModel):
    """The model in charge when the night opened."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    night: str
    bundle: str
    """Folder below the lake's root."""
    version: str
    """Version of the registered model."""
    trained_through: datetime
    """The model was trained on events before this moment only."""


class Manifest(BaseModel):
    """Everything a night depends on, fixed when it opens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    night: str
    day: date
    settings: Annotated[Config, BeforeValidator(translated)]
    code: str
    """Hash over the sources of dealrec_core, tasks and flows."""
    commit: str | None
    """Git commit of the checkout, None outside a checkout."""
    versions: dict[str, int]
    """Lake table versions at the start, -1 for a table that did not exist."""
    champion: Champion | None
    opened_at: datetime


@dataclass(frozen=True)
class Night:
    """One opened night: its manifest, its lake and its stage records, each of which is read once."""

    manifest: Manifest
    lake: Lake

    @property
    def name(self) -> str:
        """For example 2016-10-16-3fa9c1."""
        return self.manifest.night

    @property
    def day(self) -> date:
        """The last day whose rows this night ingests."""
        return self.manifest.day

    @property
    def config(self) -> Config:
        """Settings as they were when the night opened, except where it runs."""
        return self.manifest.settings

    def find(self, stage: str) -> Snapshot | None:
        """Returns the record of a finished stage, None when it has not finished."""
        path = _record(self.name, stage)
        if stage not in self._records and self.lake.exists_path(path):
            self._records[stage] = _read(Snapshot, self.lake, path)
        return self._records.get(stage)

    def need(self, stage: str) -> Snapshot:
        """Returns the record of a stage that must have finished.

        Raises:
            DataError: it has not; the message names the command that runs it.
        """
        snapshot = self.find(stage)
        if snapshot is None:
            raise DataError(
                f"stage '{stage}' of night {self.name} has not finished; run `{STAGES[stage]} --day {self.day}`"
            )
        return snapshot

    def record(self, snapshot: Snapshot) -> Snapshot:
        """Marks a stage as finished, and returns its record, which fixes the content of its tables."""
        if snapshot.versions:
            known = {path: sha256 for table, _ in snapshot.versions for path, sha256 in self._known(table).items()}
            listing = json.dumps(sums.of_tables(self.lake, snapshot.versions, known), indent=0).encode()
            self.lake.write_bytes(_sums(self.name, snapshot.stage), listing)
            snapshot = snapshot.model_copy(update={"tables_sha256": hashlib.sha256(listing).hexdigest()})
        self.lake.write_bytes(_record(self.name, snapshot.stage), snapshot.model_dump_json(indent=1).encode())
        self._records[snapshot.stage] = snapshot
        return snapshot

    def scan(self, table: str, version: int | None) -> pl.LazyFrame:
        """Returns the rows of a table version (the newest when None), after a look whether its files are what nights recorded.

        Raises:
            LakeError: a file was changed, or is torn or gone.
        """
        version = self.lake.version(table) if version is None else version
        if (table, version) not in self._checked:
            sums.require_unchanged(self.lake, table, version, self._known(table))
            self._checked.add((table, version))
        return self.lake.scan(table, version)

    def sums(self, stage: str) -> dict[str, str]:
        """Returns the sha256 of each data file of a finished stage's tables, by path below the root; none of an older program.

        Raises:
            LakeError: the list is not the one that the record names.
        """
        snapshot, path = self.find(stage), _sums(self.name, stage)
        if snapshot is None or snapshot.tables_sha256 is None:
            return {}
        listing = self.lake.read_bytes(path)
        if hashlib.sha256(listing).hexdigest() != snapshot.tables_sha256:
            raise LakeError(
                f"{path} in {self.lake.root} is not what was recorded (sha256 differs); restore it from a backup"
            )
        return dict(json.loads(listing))

    def _known(self, table: str) -> dict[str, str]:
        """The hashes of a table's files, as the newest stage listed them: of this night or an earlier one."""
        for night in (self, *reversed(self.earlier)):
            for snapshot in reversed(night.snapshots()):
                if snapshot.tables_sha256 is not None and table in dict(snapshot.versions):
                    return night.sums(snapshot.stage)
        return {}

    @property
    def served(self) -> Snapshot:
        """The record of the model that the night registers: the refit where there is one, else the tuned model."""
        return self.find("refit") or self.need("fine_tune")

    def snapshots(self) -> list[Snapshot]:
        """Returns the records of the finished stages, in order."""
        return [snapshot for stage in STAGES if (snapshot := self.find(stage))]

    @cached_property
    def earlier(self) -> list["Night"]:
        """The nights that were opened before this one, oldest first: their manifests are read once."""
        return [night for night in nights(self.lake) if night.manifest.opened_at < self.manifest.opened_at]

    @cached_property
    def _records(self) -> dict[str, Snapshot]:
        return {}

    @cached_property
    def _checked(self) -> set[tuple[str, int]]:
        return set()

    def __reduce__(self) -> tuple[type["Night"], tuple[Manifest, Lake]]:
        """A night is sent to another process without what it has read."""
        return Night, (self.manifest, self.lake)

    @property
    def finished(self) -> bool:
        """Whether the night is complete: its last stage ran, its day was empty, or nobody is there to judge a model."""
        return self.find("promotion") is not None or self.cut_short is not None

    @property
    def cut_short(self) -> str | None:
        """Why the night makes no model; None where it does."""
        ingested, sampled = self.find("ingest"), self.find("samples")
        if ingested is not None and ingested.facts.get("empty"):
            return f"nothing new up to {self.day}: no sample, score or model was made"
        reason = sampled.facts.get(NOBODY) if sampled is not None else None
        return None if reason is None else str(reason)


NOBODY = "nobody to judge"
"""Fact of the stage `samples`: why no model of this night could be judged."""


def last_whole_day(now: datetime) -> date:
    """Returns the day of a night that names none: the last one that has ended (UTC), since the files of a later one still grow.

    >>> last_whole_day(datetime(2026, 1, 1, 2, tzinfo=UTC))
    datetime.date(2025, 12, 31)
    """
    return now.astimezone(UTC).date() - timedelta(days=1)


def open_night(config: Config, day: date, *, lake: Lake, champion: Champion | None, now: datetime) -> Night:
    """Returns the night of this day, settings and code: the one that was opened before, or a new one with its inputs fixed."""
    name = night_name(config, day)
    if lake.exists_path(_manifest(name)):
        return reopen(name, lake, run=config.run)
    manifest = Manifest(
        night=name,
        day=day,
        settings=config,
        code=code_fingerprint(),
        commit=checkout.git_commit(),
        versions={table: lake.version(table) for table in TABLES},
        champion=champion,
        opened_at=now,
    )
    lake.write_bytes(_manifest(name), manifest.model_dump_json(indent=1).encode())
    return Night(manifest, lake)


def served_sha256(lake: Lake, model: Champion) -> str | None:
    """Returns the hash of a model's bundle, None where its night is gone."""
    try:
        return reopen(model.night, lake).served.sha256
    except DealrecError:
        return None


def reopen(name: str, lake: Lake, *, run: RunConfig | None = None) -> Night:
    """Returns the night of that name as it was opened; where it runs comes from `run` if that is given.

    Raises:
        DataError: this lake has no such night.
    """
    if not lake.exists_path(_manifest(name)):
        raise DataError(f"no night '{name}' in {lake.root}; `dealrec status` lists the nights")
    manifest = _read(Manifest, lake, _manifest(name))
    if run is not None:
        moved = manifest.settings.run.model_copy(update={field: getattr(run, field) for field in PLACE})
        manifest = manifest.model_copy(update={"settings": manifest.settings.model_copy(update={"run": moved})})
    return Night(manifest, lake)


def nights(lake: Lake) -> list[Night]:
    """Returns every night of the lake, in the order in which they were opened; this reads all their manifests."""
    names = {path.split("/")[1] for path in lake.list_paths("nights") if path.endswith("/manifest.json")}
    return sorted((reopen(name, lake) for name in names), key=lambda night: night.manifest.opened_at)


def night_name(config: Config, day: date) -> str:
    """Returns the day and six hex digits over settings and code: a change of either makes another night.

    Settings that say where things are kept (home, lake, registry), where they run and how they are looked after do not count.
    """
    settings = config.model_dump_json(exclude={"registry": True, "upkeep": True, "run": PLACE, "lake": {"root"}})
    return f"{day.isoformat()}-{fingerprint([settings, code_fingerprint()])[:6]}"


def fingerprint(parts: Iterable[str]) -> str:
    """Returns the sha256 of the parts in hex; the borders between parts count."""
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()


@cache
def code_fingerprint() -> str:
    """Returns a hash over the Python sources that a night runs, so that a changed program makes another night."""
    return fingerprint(
        f"{path.relative_to(checkout.ROOT)} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in checkout.sources()
    )


def _read(kind: type[Content], lake: Lake, path: str) -> Content:
    """The content of a small file of a night.

    Raises:
        LakeError: the file is torn.
    """
    try:
        return kind.model_validate_json(lake.read_bytes(path))
    except ValidationError as error:
        message = f"{path} in {lake.root} cannot be read ({line(error)}); run `dealrec doctor`"
        raise LakeError(message) from error


def _record(night: str, stage: str) -> str:
    return f"nights/{night}/stages/{stage}.json"


def _sums(night: str, stage: str) -> str:
    return f"nights/{night}/sums/{stage}.json"


def _manifest(night: str) -> str:
    return f"nights/{night}/manifest.json"
