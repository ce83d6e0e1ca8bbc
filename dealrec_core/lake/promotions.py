"""The decisions about models in a Delta table: its last commit says which model is champion. MLflow's aliases are copies."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import polars as pl

from dealrec_core import schema
from dealrec_core.errors import DataError
from dealrec_core.lake import Lake
from dealrec_core.lake.draft import Draft, change
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
    """Returns what became of a candidate, from the facts of its night's stage `promotion`.

    >>> outcome({"promoted": False}), outcome({"promoted": False, "unchanged": "none of 3 epochs was better than the start"})
    ('rejected', 'unchanged')
    """
    if facts["promoted"]:
        return "promoted"
    return "unchanged" if facts.get(UNCHANGED) else "rejected"


def record(lake: Lake, *, night: Champion, action: str, reason: str, who: str, now: datetime) -> int:
    """Adds one decision about a model, with a number larger than those before it; returns the table's new version."""
    row = {"at": now, "action": action, **night.model_dump(), schema.REASON: reason, "who": who}

    def attempt(draft: Draft) -> int:
        numbered = {**row, "number": draft.handle.version() + 1}  # no other commit that saw this version gets in
        draft.write(pl.DataFrame([numbered], schema=schema.PROMOTIONS))
        return draft.commit({})

    return change(lake, TABLE, attempt, schema=schema.PROMOTIONS)


def decisions(lake: Lake) -> pl.DataFrame:
    """Returns every decision so far (PROMOTIONS) in the order of their commits: no clock can put one before another."""
    return lake.rows(TABLE, schema.PROMOTIONS).sort("number", "at", nulls_last=False)


def champion(lake: Lake) -> Champion | None:
    """Returns the model in charge, None before the first promotion."""
    reigns = _reigns(lake)
    return reigns[-1][1] if reigns else None


def previous(lake: Lake) -> Champion:
    """Returns the model that a rollback restores, however often it is sent: the one in charge before the last promotion.

    Raises:
        DataError: there is no such model.
    """
    if (earlier := before_champion(lake)) is None:
        raise DataError("no earlier champion to go back to; `dealrec status` shows the promotions so far")
    return earlier


def before_champion(lake: Lake) -> Champion | None:
    """Returns the model that `previous` would return, None where there is no such model."""
    reigns = _reigns(lake)
    promoted = [place for place, (action, _) in enumerate(reigns) if action != ROLLED_BACK]
    if not promoted:
        return None
    last = reigns[promoted[-1]][1]
    earlier = [model for _, model in reigns[: promoted[-1]] if model.night != last.night]
    return earlier[-1] if earlier else None


def _reigns(lake: Lake) -> list[tuple[str, Champion]]:
    """The models in charge so far, oldest first, each with the action that put it there."""
    in_charge = decisions(lake).filter(pl.col("action").is_in(IN_CHARGE))
    return [
        (row["action"], Champion(**{name: row[name] for name in Champion.model_fields}))
        for row in in_charge.iter_rows(named=True)
    ]
