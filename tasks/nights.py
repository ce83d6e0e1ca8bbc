"""Opens a night for a flow: settings, day, lake, champion; one night at a time per lake."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, date, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from dealrec_core import promotions, settings
from dealrec_core.config import Config
from dealrec_core.lake import Lake, lock
from dealrec_core.night import Night, open_night, reopen

PIPELINE = "deployments/pipeline.toml"


class NightRequest(BaseModel):
    """Which night to run or continue; this is the form in the Prefect UI."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    day: date | None = Field(default=None, title="Day")
    """The last day whose rows are taken (UTC). Empty means today."""
    config: str = Field(default=PIPELINE, title="Settings file")
    """Path of the TOML file, from the checkout's root."""
    overrides: list[str] = Field(default=[], title="Settings to change")
    """Lines like coreset.ratio=0.05; they win over the file."""
    night: str | None = Field(default=None, title="Night to continue")
    """Name of an opened night; its settings are then taken from its manifest, not from the file."""

    def settings(self) -> Config:
        """The settings that this request asks for."""
        return settings.load(self.config, self.overrides)


_held: ContextVar[str | None] = ContextVar("held", default=None)


@contextmanager
def one_night(request: NightRequest) -> Iterator[Night]:
    """The night of the request, held by this process alone until the block ends.

    Raises:
        NightBusy: another process holds a night on this lake.
    """
    config = request.settings()
    lake = Lake(config.lake.root)
    if _held.get() == lake.root:
        yield _open(request, config, lake)
        return
    with lock(lake, home=config.run.home):
        token = _held.set(lake.root)
        try:
            yield _open(request, config, lake)
        finally:
            _held.reset(token)


def _open(request: NightRequest, config: Config, lake: Lake) -> Night:
    if request.night is not None:
        return reopen(request.night, lake)
    now = datetime.now(UTC)
    return open_night(config, request.day or now.date(), lake=lake, champion=promotions.champion(lake), now=now)


class NightSummary(BaseModel):
    """How a night ended."""

    model_config = ConfigDict(frozen=True)

    night: str
    day: date
    outcome: Literal["promoted", "rejected", "empty", "done before"]
    message: str
    rows_new: int = 0
    samples: int = 0
    coreset: int = 0
    version: str | None = None
    champion: str | None = None
    recall: dict[str, float] = Field(default_factory=dict)
    """Mean recall at K of every recommender on the held-out users."""
    verdict: str | None = None
    """Tonight's coreset against random ones of its size, by a cheap proxy."""


def summarise(night: Night, *, before: bool = False) -> NightSummary:
    """What a finished night did, from its records alone."""
    ingested = night.need("ingest")
    if ingested.facts.get("empty"):
        return NightSummary(
            night=night.name,
            day=night.day,
            outcome="done before" if before else "empty",
            message=f"nothing new up to {night.day}: no sample, score or model was made",
        )
    promotion, evaluated = night.need("promotion"), night.need("evaluation")
    reason = str(promotion.facts["reason"])
    done_before = f"night {night.name} was finished before: nothing taken, no table changed (then: {reason})"
    return NightSummary(
        night=night.name,
        day=night.day,
        rows_new=0 if before else ingested.rows or 0,
        outcome="done before" if before else ("promoted" if promotion.facts["promoted"] else "rejected"),
        message=done_before if before else reason,
        samples=night.need("samples").rows or 0,
        coreset=night.need("coreset").rows or 0,
        version=str(promotion.facts["version"]),
        champion=str(promotion.facts["champion"]) if promotion.facts["champion"] else None,
        recall={
            name.removesuffix(" recall"): float(str(value))
            for name, value in evaluated.facts.items()
            if name.endswith(" recall")
        },
        verdict=str(judged.facts["verdict"]) if (judged := night.find("verdict")) else None,
    )
