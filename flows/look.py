"""Looks at a lake without changing it."""

from pydantic import BaseModel

from dealrec_core import promotions, settings
from dealrec_core.lake import Lake
from dealrec_core.night import TABLES, Night, nights


class NightLine(BaseModel):
    """One night in the list."""

    night: str
    stages: str
    rows_new: int | None
    coreset: int | None
    version: str | None
    outcome: str


class Status(BaseModel):
    """What a lake holds."""

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


def _line(night: Night) -> NightLine:
    found = {snapshot.stage: snapshot for snapshot in night.snapshots()}
    promotion = found.get("promotion")
    if promotion:
        outcome = "promoted" if promotion.facts["promoted"] else "rejected"
    else:
        outcome = "empty day" if night.finished else "unfinished: start it again to continue"
    return NightLine(
        night=night.name,
        stages=f"{len(found)} done, last {list(found)[-1]}" if found else "none",
        rows_new=found["ingest"].rows if "ingest" in found else None,
        coreset=found["coreset"].rows if "coreset" in found else None,
        version=str(promotion.facts["version"]) if promotion else None,
        outcome=outcome,
    )
