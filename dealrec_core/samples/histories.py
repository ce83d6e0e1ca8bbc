"""Turns a log into samples in order of time, remembering the last items of every user only."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import polars as pl
import pyarrow as pa

from dealrec_core import schema

IS_NEW = "is_new"
"""Column that marks the events whose samples have not been made before (Boolean)."""
IDENTITY = [schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP]
MILLISECONDS = 44
"""Bits of the time in a sorting key: epoch milliseconds until the year 2527."""
FAR = np.int64(2**62)
OF_A_MOMENT = [schema.FILE, schema.ROW, schema.ITEM_ID, schema.EVENT_ID]
"""The order of one user's events at one moment: as in their file, and files by their hash."""


@dataclass
class Histories:
    """The last `length` items of every user so far. U users, L length."""

    length: int
    _users: "_Numbers" = field(default_factory=lambda: _Numbers())
    _items: "_Numbers" = field(default_factory=lambda: _Numbers())
    _tails: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.uint32))  # (U, L) items, newest last
    _filled: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # (U,)
    _since_new: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # (U,) events since a new one

    def samples(self, events: pl.DataFrame) -> pl.DataFrame:
        """Returns the samples that the new events make or change: their own, and those of the next `length` events.

        The samples have the columns of SAMPLES, and PERIOD where the events have it.

        events: rows of INTERACTIONS, all later than those of earlier calls; without IS_NEW all are new. Events of one user
            at one moment are ordered by OF_A_MOMENT, so that the result does not depend on the order of rows.
        """
        if events.is_empty():
            return pl.DataFrame(schema=schema.SAMPLE_TABLE if schema.PERIOD in events.columns else schema.SAMPLES)
        users = self._users.of(events[schema.USER_ID])
        order = _order(users, events)
        users, log = users[order], events[order]
        items = self._items.of(log[schema.ITEM_ID])
        self._grow(int(users.max()) + 1)
        starts = np.concatenate([[0], np.flatnonzero(np.diff(users)) + 1])
        sequences = self._sequences(users[starts], items, starts)
        repeats = _repeats(log)
        has_changed = self._changed(log, users, starts, repeats) & (sequences.places > sequences.begins)
        self._remember(users[starts], sequences)
        rows = np.flatnonzero(has_changed)
        return self._frame(log[rows], sequences, rows, repeats[rows])

    def _grow(self, users: int) -> None:
        present = len(self._filled)
        if users > present:
            more = max(users, 2 * present) - present
            tails = self._tails.reshape(present, self.length)
            self._tails = np.concatenate([tails, np.zeros((more, self.length), dtype=np.uint32)])
            self._filled = np.concatenate([self._filled, np.zeros(more, dtype=np.int64)])
            self._since_new = np.concatenate([self._since_new, np.full(more, FAR)])

    def _sequences(self, users: np.ndarray, items: np.ndarray, starts: np.ndarray) -> "_Sequences":
        """Every user's remembered items, then the user's new items."""
        counts = np.diff(np.append(starts, len(items)))
        filled = self._filled[users]
        ends = np.cumsum(filled + counts)
        begins = ends - filled - counts
        places = np.arange(len(items)) + np.repeat(begins + filled - starts, counts)
        flat = np.empty(int(ends[-1]), dtype=np.uint32)
        flat[places] = items
        column = np.arange(self.length)
        is_filled = column >= self.length - filled[:, None]
        flat[(begins[:, None] + column - self.length + filled[:, None])[is_filled]] = self._tails[users][is_filled]
        return _Sequences(flat, places, np.repeat(begins, counts), begins, ends)

    def _changed(self, log: pl.DataFrame, users: np.ndarray, starts: np.ndarray, repeats: np.ndarray) -> np.ndarray:
        """Whether an event is new, at most `length` events after a new one, or a repetition that is numbered after a new one."""
        if IS_NEW not in log.columns:
            return np.ones(log.height, dtype=bool)
        is_new = log[IS_NEW].to_numpy()
        place = np.arange(log.height)
        first = np.repeat(starts, np.diff(np.append(starts, log.height)))
        newest = np.maximum.accumulate(np.where(is_new, place, -1))
        since = np.where(newest >= first, place - newest, place - first + 1 + self._since_new[users])
        lasts = np.append(starts[1:], log.height) - 1
        self._since_new[users[lasts]] = since[lasts]
        changed = since <= self.length
        if repeats.any():
            changed |= log.select(pl.col(IS_NEW).any().over(IDENTITY)).to_series().to_numpy()
        return changed

    def _remember(self, users: np.ndarray, sequences: "_Sequences") -> None:
        filled = np.minimum(sequences.ends - sequences.user_begins, self.length)
        column = np.arange(self.length)
        is_filled = column >= self.length - filled[:, None]
        tails = np.zeros((len(users), self.length), dtype=np.uint32)
        tails[is_filled] = sequences.flat[(sequences.ends[:, None] + column - self.length)[is_filled]]
        self._tails[users], self._filled[users] = tails, filled

    def _frame(
        self, targets: pl.DataFrame, sequences: "_Sequences", rows: np.ndarray, repeats: np.ndarray
    ) -> pl.DataFrame:
        ends = sequences.places[rows]
        lengths = np.minimum(ends - sequences.begins[rows], self.length)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        flat = np.repeat(ends - lengths - offsets[:-1], lengths) + np.arange(offsets[-1])
        arrow = self._items.texts(sequences.flat[flat]).to_arrow(compat_level=pl.CompatLevel.newest())
        lists = pa.LargeListArray.from_arrays(pl.Series(offsets).to_arrow(), arrow)
        histories = cast(pl.Series, pl.from_arrow(lists)).alias(schema.HISTORY)
        names = [*schema.SAMPLES.names(), *([schema.PERIOD] if schema.PERIOD in targets.columns else [])]
        return targets.with_columns(_sample_ids(targets, repeats), histories).select(names)


class _Numbers:
    """Numbers texts from 0 in the order of their first occurrence."""

    def __init__(self) -> None:
        self._type = pl.Categorical(pl.Categories.random())
        self._alive = pl.Series(dtype=self._type)
        """Polars forgets the numbers with the last column that uses them."""

    def of(self, texts: pl.Series) -> np.ndarray:
        self._alive = texts.cast(self._type)
        return self._alive.to_physical().to_numpy()

    def texts(self, numbers: np.ndarray) -> pl.Series:
        return pl.Series(numbers).cat.to(self._type).cast(pl.String)


@dataclass(frozen=True)
class _Sequences:
    """Items of users one after the other. S items in all, N events, U users."""

    flat: np.ndarray  # (S,)
    places: np.ndarray  # (N,) of the events in flat
    begins: np.ndarray  # (N,) of the event's user in flat
    user_begins: np.ndarray  # (U,)
    ends: np.ndarray  # (U,)


def of_a_moment(columns: Sequence[str]) -> list[str]:
    """Returns the columns of OF_A_MOMENT that events have."""
    return [name for name in OF_A_MOMENT if name in columns]


def _order(users: np.ndarray, events: pl.DataFrame) -> np.ndarray:
    """Places of the events by user, time and OF_A_MOMENT."""
    times = events[schema.TIMESTAMP].to_physical().to_numpy()
    keys = (users.astype(np.uint64) << np.uint64(MILLISECONDS)) | (times // 1000).astype(np.uint64)
    order = np.argsort(keys)
    keys = keys[order]
    same = keys[1:] == keys[:-1]
    is_tied = np.append(same, False) | np.append(False, same)
    if is_tied.any():
        tied = order[is_tied]
        exact = (
            events[tied]
            .select(schema.TIMESTAMP, *of_a_moment(events.columns))
            .with_columns(pl.Series("key", keys[is_tied]), pl.Series("place", tied))
        )
        order[is_tied] = exact.sort("key", schema.TIMESTAMP, *of_a_moment(events.columns))["place"].to_numpy()
    return order


def _repeats(log: pl.DataFrame) -> np.ndarray:
    """For every event, the number of earlier events with the same user, item and time."""
    repeats = np.zeros(log.height, dtype=np.int64)
    moment = [schema.USER_ID, schema.TIMESTAMP]
    same = log.select(pl.all_horizontal(pl.col(name) == pl.col(name).shift() for name in moment)).to_series()
    follows = same.fill_null(False).to_numpy()
    tied = np.flatnonzero(follows | np.append(follows[1:], False))
    if len(tied):
        repeats[tied] = log[tied].select(pl.int_range(pl.len()).over(IDENTITY)).to_series().to_numpy()
    return repeats


def _sample_ids(targets: pl.DataFrame, repeats: np.ndarray) -> pl.Series:
    """A hash of user, target and time in 32 hex digits; a repetition of the same three gets a number as well."""
    number = pl.Series("repeat", repeats)
    suffix = pl.when(number > 0).then(pl.format("\x1f{}", number)).otherwise(pl.lit(""))
    text = targets.select(
        pl.concat_str(schema.USER_ID, schema.ITEM_ID, pl.col(schema.TIMESTAMP).to_physical(), separator="\x1f") + suffix
    ).to_series()
    ids = [hashlib.blake2b(identity.encode(), digest_size=16).hexdigest() for identity in text.to_list()]
    return pl.Series(schema.SAMPLE_ID, ids, dtype=pl.String)
