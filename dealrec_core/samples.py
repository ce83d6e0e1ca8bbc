"""Samples (history, next item) out of the log, split by global time."""

import hashlib
from datetime import datetime, timedelta
from typing import Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from dealrec_core import schema
from dealrec_core.errors import DataError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class SamplesConfig(BaseModel):
    """How the log becomes samples, and how much of it is held out."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    mode: Literal["sliding", "last"] = Field(default="sliding", title="Samples per user")
    """sliding: one for every interaction that has a history; last: one per user, as in the paper."""
    history_length: int = Field(default=20, ge=1, le=1000, title="History length")
    """Older items are left out of a history."""
    validation_fraction: float = Field(default=0.1, gt=0, lt=0.5, title="Validation share")
    """Share of the log, just before the test slice, that stops training early and is the risk that influence is taken on."""
    test_fraction: float = Field(default=0.1, gt=0, lt=0.5, title="Test share")
    """Share of the log, the most recent, on which models are compared; nothing is learned from it."""


class Boundaries(BaseModel):
    """Moments (UTC) that split a log: train < validation_start <= validation < test_start <= test < end."""

    model_config = ConfigDict(frozen=True)

    validation_start: datetime
    test_start: datetime
    end: datetime


def boundaries(interactions: pl.LazyFrame, config: SamplesConfig, *, not_before: datetime | None) -> Boundaries:
    """The moments that leave the configured shares of the log to validation and test (8:1:1 in the paper, section 4.1).

    Events of one moment stay together, on the later side. not_before: the test slice does not start earlier than this, so
    that a champion is never judged on what it has learned.

    Raises:
        DataError: the log has too few distinct moments to be split.
    """
    times = interactions.select(pl.col(schema.TIMESTAMP).sort()).collect()[schema.TIMESTAMP]
    if times.n_unique() < 3:
        raise DataError(
            f"{times.n_unique()} distinct moments in the log, at least 3 are needed to split it; wait for more data"
        )
    count = len(times)
    test = times[int(count * (1 - config.test_fraction))]
    validation = times[int(count * (1 - config.test_fraction - config.validation_fraction))]
    if not_before is not None and test < not_before:
        test = not_before
    distinct = times.unique().sort()
    test = max(test, distinct[2] if len(distinct) > 2 else test)
    validation = min(max(validation, distinct[1]), distinct.filter(distinct < test)[-1])
    return Boundaries(validation_start=validation, test_start=test, end=times[-1] + timedelta(microseconds=1))


def build(interactions: pl.LazyFrame, config: SamplesConfig) -> pl.DataFrame:
    """Every sample of the log (SAMPLES), ordered by user and time.

    Events of one user at one moment are ordered by item id, then event id, so that the result does not depend on the order
    of rows. A user's first event has no history and gives no sample. In `last` mode the split keeps one sample per user.

    sample_id: 32 hex digits over user, target and time; a second event of the same three is numbered on.
    """
    log = (
        interactions.select(schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP, schema.EVENT_ID)
        .sort(schema.USER_ID, schema.TIMESTAMP, schema.ITEM_ID, schema.EVENT_ID)
        .with_columns(
            pl.int_range(pl.len()).over(schema.USER_ID).alias("place"),
            pl.int_range(pl.len()).over(schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP).alias("repeat"),
        )
        .collect()
    )
    place = log["place"].to_numpy()
    rows = np.flatnonzero(place > 0)
    lengths = np.minimum(place[rows], config.history_length)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    flat = np.repeat(rows - lengths - offsets[:-1], lengths) + np.arange(offsets[-1])
    histories = log[schema.ITEM_ID].gather(flat)
    targets = log[rows]
    grouped = pl.DataFrame({"row": np.repeat(np.arange(len(rows)), lengths), schema.HISTORY: histories}).group_by(
        "row", maintain_order=True
    )
    identities = [
        _sample_id(*identity)
        for identity in targets.select(
            schema.USER_ID, schema.ITEM_ID, pl.col(schema.TIMESTAMP).to_physical(), "repeat"
        ).iter_rows()
    ]
    return targets.with_columns(
        pl.Series(schema.SAMPLE_ID, identities, dtype=pl.String),
        grouped.agg(pl.col(schema.HISTORY))[schema.HISTORY],
    ).select(schema.SAMPLES.names())


def split(
    samples: pl.DataFrame, bounds: Boundaries, which: Split, mode: Literal["sliding", "last"] = "sliding"
) -> pl.DataFrame:
    """The samples whose target falls in one slice; in `last` mode only the newest of each user there."""
    start, end = {
        "train": (None, bounds.validation_start),
        "validation": (bounds.validation_start, bounds.test_start),
        "test": (bounds.test_start, bounds.end),
    }[which]
    inside = pl.col(schema.TIMESTAMP) < end
    if start is not None:
        inside &= pl.col(schema.TIMESTAMP) >= start
    found = samples.filter(inside)
    if mode == "sliding":
        return found
    newest = found.sort(schema.TIMESTAMP, schema.SAMPLE_ID).group_by(schema.USER_ID, maintain_order=True).last()
    return newest.select(samples.columns)


def cases(
    interactions: pl.LazyFrame, bounds: Boundaries, *, history_length: int, users: int | None, seed: int
) -> pl.DataFrame:
    """Held-out users: user_id, history (before the test slice, oldest first) and targets (distinct, in it), by user_id.

    Only users with an event on both sides count. users: at most so many, drawn at random.

    Raises:
        DataError: there is no such user.
    """
    log = interactions.sort(schema.USER_ID, schema.TIMESTAMP, schema.ITEM_ID, schema.EVENT_ID)
    is_test = (pl.col(schema.TIMESTAMP) >= bounds.test_start) & (pl.col(schema.TIMESTAMP) < bounds.end)
    past = log.filter(pl.col(schema.TIMESTAMP) < bounds.test_start).group_by(schema.USER_ID, maintain_order=True)
    future = log.filter(is_test).group_by(schema.USER_ID, maintain_order=True)
    found = (
        past.agg(pl.col(schema.ITEM_ID).tail(history_length).alias(schema.HISTORY))
        .join(future.agg(pl.col(schema.ITEM_ID).unique(maintain_order=True).alias("targets")), on=schema.USER_ID)
        .sort(schema.USER_ID)
        .collect()
    )
    if found.is_empty():
        raise DataError(
            f"no user has events both before and after {bounds.test_start}; raise samples.test_fraction or wait for more data"
        )
    if users is None or users >= len(found):
        return found
    chosen = np.sort(np.random.default_rng(seed).choice(len(found), users, replace=False))
    return found[chosen]


def _sample_id(user: str, item: str, time_us: int, repeat: int) -> str:
    text = "\x1f".join((user, item, str(time_us), *([str(repeat)] if repeat else [])))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
