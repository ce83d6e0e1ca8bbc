"""Opens a night for a flow: settings, day, lake, champion; one night at a time per lake."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, date, datetime
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, WithJsonSchema, create_model, model_serializer

from dealrec_core import settings
from dealrec_core.errors import DataError
from dealrec_core.lake import Lake, lock, promotions
from dealrec_core.lake.nights import Night, Snapshot, last_whole_day, nights, open_night, reopen
from dealrec_core.settings import Config
from tasks.champions import poll_registry

PIPELINE = settings.found()

Step = Literal[
    "ingest", "retrain-surrogate", "score-samples", "select-coreset", "fine-tune", "evaluate-candidate", "promote"
]
"""The steps of a night: the flows that nightly.py puts in order."""

CHANGEABLE = (
    "coreset.method", "coreset.ratio", "fine_tune.start", "fine_tune.memory", "fine_tune.epochs", "fine_tune.learning_rate",
    "surrogate.epochs", "evaluation.users", "gate.confidence", "run.seed",
)  # fmt: skip
"""Settings with a field of their own in the form. No booleans: an untouched box is sent as no."""


class Given(BaseModel):
    """Serialises without empty fields; otherwise Prefect's form sends them back as null and rejects its own input."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @model_serializer(mode="wrap")
    def _without_empty(self, write: Callable[[BaseModel], dict[str, Any]]) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if value is not None}


def _optional(kind: Any) -> Any:
    """A field that may be left empty, with the plain type's schema: Prefect's form then shows one simple input."""
    schema = TypeAdapter(kind).json_schema()
    plain = next((option for option in schema.get("anyOf", []) if option.get("type") != "null"), schema)
    return Annotated[kind | None, WithJsonSchema(plain)]


def _form() -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for key in CHANGEABLE:
        section, name = key.split(".")
        setting = Config.model_fields[section].annotation.model_fields[name]  # type: ignore[union-attr]
        kind = Annotated[(setting.annotation, *setting.metadata)] if setting.metadata else setting.annotation
        note = f"Setting {key}. {setting.description or ''}".strip()
        title = (
            f"{section.replace('_', ' ').capitalize()}: {str(setting.title).lower()}"  # two sections have 'Most epochs'
        )
        field = Field(default_factory=lambda: None, title=title, description=note)
        fields[f"{section}_{name}"] = (_optional(kind), field)
    return create_model("Changes", __base__=Given, **fields)


Changes = _form()


class NightRequest(Given):
    """The night to run or continue."""

    day: Annotated[date | None, WithJsonSchema({"type": "string", "format": "date"})] = Field(
        default_factory=lambda: None, title="Day"
    )
    """The last day whose rows are ingested (UTC). If it is empty, that is yesterday, the last day that has ended."""
    config: str = Field(default=PIPELINE, title="Settings file")
    """Path of the TOML file, from the checkout's root."""
    change: Changes = Field(default=Changes(), title="Often changed settings")  # type: ignore[valid-type]
    """If a field is empty, the setting of the file is used."""
    overrides: list[str] = Field(default=[], title="Any other setting")
    """Lines like coreset.ratio=0.05; they win over the file and over the settings above."""
    only: list[Step] = Field(default=[], title="Only these steps")
    """If it is empty, the whole night runs. The steps before the first chosen step must have finished."""
    resume: bool = Field(default=False, title="Resume")
    """Continue the newest unfinished night, with the settings and the day that it was opened with."""
    night: Annotated[str | None, WithJsonSchema({"type": "string"})] = Field(
        default_factory=lambda: None, title="Night to continue"
    )
    """Name of an opened night; its settings are then read from its manifest, not from the file."""

    def __str__(self) -> str:
        """The requested night, for the name of a run: its name, its day, or which one is resumed."""
        if self.night is None and self.resume:
            return "the newest unfinished night"
        return self.night or str(self.day or last_whole_day(datetime.now(UTC)))

    def settings(self) -> Config:
        """The settings of this request."""
        keys = {key.replace(".", "_"): key for key in CHANGEABLE}
        given = self.model_dump(mode="json", include={"change"})["change"]
        changes = [f"{keys[name]}={json.dumps(value)}" for name, value in given.items()]
        return settings.load(self.config, [*changes, *self.overrides])

    def wants(self, step: str) -> bool:
        """Whether a step of the night is to be run."""
        return not self.only or step in self.only


_held: ContextVar[str | None] = ContextVar("held", default=None)


@contextmanager
def hold(request: NightRequest) -> Iterator[tuple[Config, Lake]]:
    """The settings and the lake of the request, held by this process alone until the block ends.

    A champion set by hand in MLflow is then adopted, and an alias that was not moved is moved.

    Raises:
        NightBusy: another process holds a night on this lake.
    """
    config = request.settings()
    lake = Lake(config.lake.root)
    if _held.get() == lake.root:
        yield config, lake
        return
    with lock(lake, home=config.run.home):
        token = _held.set(lake.root)
        try:
            poll_registry(config.registry, lake)
            yield config, lake
        finally:
            _held.reset(token)


@contextmanager
def one_night(request: NightRequest) -> Iterator[Night]:
    """The night of the request, on a lake that this process holds until the block ends."""
    with hold(request) as (config, lake):
        yield _open(request, config, lake)


def _open(request: NightRequest, config: Config, lake: Lake) -> Night:
    if request.night is not None:
        return reopen(request.night, lake, run=config.run)
    if request.resume:
        unfinished = [night.name for night in nights(lake) if not night.finished]
        if not unfinished:
            nothing = "nothing to resume; switch `resume` off to open a new night"
            raise DataError(f"every night in {lake.root} has finished: {nothing}")
        return reopen(unfinished[-1], lake, run=config.run)
    now = datetime.now(UTC)
    return open_night(
        config, request.day or last_whole_day(now), lake=lake, champion=promotions.champion(lake), now=now
    )


class NightSummary(BaseModel):
    """How a night ended."""

    model_config = ConfigDict(frozen=True)

    night: str
    day: date
    outcome: Literal["promoted", "rejected", "unchanged", "empty", "done before", "in part"]
    message: str
    rows_new: int = 0
    samples: int = 0
    coreset: int = 0
    version: str | None = None
    champion: str | None = None
    in_charge: Literal["candidate", "shadow", "champion"] | None = None
    """Name, among the recommenders of `recall`, of the model in charge after the verdict."""
    recall: dict[str, float] = Field(default_factory=dict)
    """Mean recall at K of every recommender on the held-out users."""
    warnings: str | None = None
    """Sentences that name odd rows in the files that this night read."""
    against_random: str | None = None
    """Tonight's coreset compared with random ones of its size, by a cheap proxy."""


def summarise(night: Night, *, before: bool = False) -> NightSummary:
    """The outcome of a night, from its records alone; an unfinished night has done the steps that `only` named."""
    ingested = night.need("ingest")
    warnings = None if before else str(ingested.facts.get("warnings") or "") or None
    summary = partial(NightSummary, night=night.name, day=night.day)
    if not night.finished:
        done = ", ".join(snapshot.stage for snapshot in night.snapshots())
        return summary(outcome="in part", message=f"done: {done}", rows_new=ingested.rows or 0, warnings=warnings)
    if (reason := night.cut_short) is not None:
        rows = 0 if before else ingested.rows or 0
        return summary(outcome="done before" if before else "empty", message=reason, rows_new=rows, warnings=warnings)
    promotion, evaluated = night.need("promotion"), night.need("evaluation")
    reason = str(promotion.facts["reason"])
    done_before = (
        f"night {night.name} had finished before: nothing was ingested and no table changed (its verdict was: {reason})"
    )
    named = {name: value for name, value in evaluated.facts.items() if name.endswith(" recall")}
    recalls = {name.removesuffix(" recall"): float(str(value)) for name, value in named.items()}
    return summary(
        rows_new=0 if before else ingested.rows or 0,
        warnings=warnings,
        outcome="done before" if before else promotions.outcome(promotion.facts),
        message=done_before if before else reason + _cheaper_leads(recalls),
        samples=night.need("samples").rows or 0,
        coreset=night.need("coreset").rows or 0,
        version=str(promotion.facts["version"]),
        champion=str(promotion.facts["champion"]) if promotion.facts["champion"] else None,
        in_charge=_in_charge(promotion, night.name),
        recall=recalls,
        against_random=str(facts["comparison"]) if "comparison" in (facts := night.need("coreset").facts) else None,
    )


def _in_charge(promotion: Snapshot, night: str) -> Literal["candidate", "shadow", "champion"] | None:
    if promotion.facts["promoted"]:
        return "candidate" if promotion.facts.get("winner", night) == night else "shadow"
    return "champion" if promotion.facts["champion"] else None


def _cheaper_leads(recalls: dict[str, float]) -> str:
    """A sentence where a recommender that costs next to nothing, a plain one or the surrogate, ranks better than the tuned model."""
    best = max(recalls.keys() - {"candidate", "champion", "shadow"}, key=lambda name: (recalls[name], name))
    if recalls[best] <= recalls["candidate"]:
        return ""
    name = "the surrogate" if best == "surrogate" else best
    return f" WARNING: {name} ranks better than the candidate, recall {recalls[best]:.4f} against {recalls['candidate']:.4f}"
