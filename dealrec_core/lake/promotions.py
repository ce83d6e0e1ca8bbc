"""The decisions about models in a Delta table: its last one says which model is champion. MLflow's aliases are copies of it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import polars as pl

from dealrec_core import schema
from dealrec_core.errors import DataError
from dealrec_core.lake import Lake
from dealrec_core.lake.nights import Champion

TABLE = "promotions"
PROMOTED = "promoted"
REJECTED = "rejected"
UNCHANGED = "unchanged"
"""Not promoted, because tuning changed nothing: the candidate is the model that it started from."""
ROLLED_BACK = "rolled back"
SET_BY_HAND = "set by hand"
IN_CHARGE = [PROMOTED, ROLLED_BACK, SET_BY_HAND]


def outcome(facts: Mapping[str, Any]) -> Literal["promoted", "rejected", "unchanged"]:
    """What became of a candidate, by the facts of the stage `promotion`: `promoted`, and `unchanged` where tuning changed nothing.

    >>> outcome({"promoted": False}), outcome({"promoted": False, "unchanged": "none of 3 epochs was better than the start"})
    ('rejected', 'unchanged')
    """
    if facts["promoted"]:
        return "promoted"
    return "unchanged" if facts.get(UNCHANGED) else "rejected"


def record(lake: Lake, *, night: Champion, action: str, reason: str, who: str, now: datetime) -> int:
    """Appends one decision about a model, and returns the table's new version."""
    row = {"at": now, "action": action, **night.model_dump(), schema.REASON: reason, "who": who}
    return lake.append(TABLE, pl.DataFrame([row], schema=schema.PROMOTIONS), schema=schema.PROMOTIONS)


def decisions(lake: Lake) -> pl.DataFrame:
    """Returns every decision so far, oldest first (PROMOTIONS)."""
    return lake.rows(TABLE, schema.PROMOTIONS).sort("at")


def champion(lake: Lake) -> Champion | None:
    """Returns the model in charge, None before the first promotion."""
    reigns = _reigns(lake)
    return reigns[-1] if reigns else None


def previous(lake: Lake) -> Champion:
    """Returns the model that a rollback restores: the last one in charge that is not the present champion.

    Raises:
        DataError: there is no such model.
    """
    if (earlier := before_champion(lake)) is None:
        raise DataError("no earlier champion to go back to; `dealrec status` shows the promotions so far")
    return earlier


def before_champion(lake: Lake) -> Champion | None:
    """Returns the model that `previous` would return, None where there is no such model."""
    reigns = _reigns(lake)
    return next((reign for reign in reversed(reigns) if reign.version != reigns[-1].version), None)


def _reigns(lake: Lake) -> list[Champion]:
    in_charge = decisions(lake).filter(pl.col("action").is_in(IN_CHARGE))
    return [Champion(**row) for row in in_charge.select(*Champion.model_fields).iter_rows(named=True)]
