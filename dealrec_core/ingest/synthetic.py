"""A seeded interaction log that grows every day, for the demo and for tests.

Every item is one part of a series ("Crimson Harbor 1", "Crimson Harbor 2", …) in one category. Series come out one
after the other, rise into fashion and fade. A user has two favourite categories. After an item the user chooses

    the next part of its series                      with chance `next_part`, when there is one
    the first part of the next series of its ring    with chance `neighbour`; a ring is three series of one category
    the first part of a series in fashion            else, usually of a favourite category

so the order of a history says more about what is next than popularity does, and recent popularity more than old.

Files below the folder, one of each kind a day; day 0 holds the whole past, and a written file is never changed:

    log/<date>.csv | .csv.gz | .jsonl.zst | .parquet (in turn)   userId, itemId, rating, timestamp
    items/<date>.csv                                             itemId, title, categories (separated by |)

`rating` is a whole number from 1 to 5; `timestamp` is UTC: whole epoch seconds, in JSONL ISO 8601 with its zone. Each
log file also has `DOUBLED_ROWS` exact duplicates and `BAD_ROWS` bad rows: one without user, one whose timestamp cannot
be read (in Parquet: is missing), one without item (in JSONL: a line that is cut off). About one event in a hundred is
late: its row stands in the file of the next day.
"""

import gzip
import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import zstandard
from pydantic import BaseModel, ConfigDict, Field

from dealrec_core.errors import DataError

FIRST = (
    "Crimson", "Silent", "Golden", "Frozen", "Hidden", "Broken",
    "Electric", "Ancient", "Velvet", "Savage", "Lunar", "Hollow",
)  # fmt: skip
SECOND = (
    "Harbor", "Kingdom", "Circuit", "Garden", "Empire", "Canyon",
    "Signal", "Tower", "Voyage", "Legacy", "Storm", "Orchard",
)  # fmt: skip
CATEGORIES = ("Racing", "Puzzle", "Strategy", "Adventure", "Sports", "Role Playing")
MOST_SERIES = len(FIRST) * len(SECOND)
RING = 3
"""Series of one category that lead to each other."""
FORMATS = ("csv", "csv.gz", "jsonl.zst", "parquet")
COLUMNS = ("userId", "itemId", "rating", "timestamp")
BAD_ROWS = 3
DOUBLED_ROWS = 2
LATE = 0.01
"""Chance that an event's row comes a day late."""
FAVOURITE = 0.8
"""Chance that a series in fashion is drawn from a favourite category, not from all."""


class SyntheticConfig(BaseModel):
    """Size and habits of the log."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    seed: int = Field(default=0, ge=0)
    start: date = date(2026, 1, 1)
    """Day 0; the past ends with it."""
    past_days: int = Field(default=60, ge=1)
    users: int = Field(default=400, ge=2)
    """On day 0: half of them are there when the past begins, and two per cent come every day after."""
    series: int = Field(default=72, ge=len(CATEGORIES), le=MOST_SERIES)
    """On day 0; one more comes out every day until the names are used up."""
    parts: int = Field(default=5, ge=2, le=99)
    events_a_day: int = Field(default=265, ge=2)
    """On day 0; as many per user on all other days."""
    next_part: float = Field(default=0.5, ge=0, le=1)
    """Chance that the next part of the series follows."""
    neighbour: float = Field(default=0.3, ge=0, le=1)
    """Chance that the next series of the ring follows, from its first part."""


@dataclass(frozen=True)
class Event:
    """One interaction; a late one is written to the next day's file."""

    user: int
    series: int
    part: int
    rating: int
    time: datetime
    late: bool


State = dict[int, tuple[int, int]]
"""The last series and part of each user."""


def write_day(folder: Path, day: int, config: SyntheticConfig) -> list[Path]:
    """Writes the log file and the items file of one day (0: the whole past) and returns their paths.

    One config and day always give the same bytes, whichever days were written before. The run time grows with `day`, as a
    user's next step depends on the last one.

    Raises:
        DataError: the day is before day 0.
    """
    if day < 0:
        raise DataError(f"day {day} of the synthetic log is in its past; write day 0, which holds all of it")
    stamp = (config.start + timedelta(days=day)).isoformat()
    return [
        _write_log(folder / "log" / f"{stamp}.{FORMATS[day % len(FORMATS)]}", _arriving(day, config)),
        _write_items(folder / "items" / f"{stamp}.csv", _coming_out(day, config), config),
    ]


def events(through: int, config: SyntheticConfig) -> list[list[Event]]:
    """Returns the events of every day from the first of the past up to day `through`, in order of time."""
    days: list[list[Event]] = []
    state: State = {}
    for day in range(1 - config.past_days, through + 1):
        today, state = _day(day, state, config)
        days.append(today)
    return days


def user_count(day: int, config: SyntheticConfig) -> int:
    """Returns how many users have arrived by the end of a day."""
    growth = 1.02**day if day > 0 else 1 + day / (2 * config.past_days)
    return max(2, round(config.users * growth))


def series_count(day: int, config: SyntheticConfig) -> int:
    """Returns how many series the catalogue has at the end of a day, from day 0 on."""
    return min(config.series + day, MOST_SERIES)


def title(series: int, part: int) -> str:
    """Returns the title of a part: "Crimson Harbor 1" is the first part of series 0."""
    return f"{FIRST[series % len(FIRST)]} {SECOND[(series // len(FIRST) + series) % len(SECOND)]} {part + 1}"


def item_id(series: int, part: int) -> str:
    """Returns the id of a part: i00001 is the first part of series 0."""
    return f"i{series:03d}{part + 1:02d}"


def _day(day: int, state: State, config: SyntheticConfig) -> tuple[list[Event], State]:
    """The events of one day, and the state of every user at its end; each day has a generator of its own."""
    random = np.random.default_rng([config.seed, day + config.past_days])
    now = user_count(day, config)
    arrived = list(range(user_count(day - 1, config), now)) if day > 1 - config.past_days else []
    count = max(len(arrived), round(config.events_a_day * now / config.users))
    who = random.permutation(np.concatenate([arrived, random.integers(now, size=count - len(arrived))]).astype(int))
    midnight = datetime.combine(config.start + timedelta(days=day), datetime.min.time(), UTC)
    fashion = _fashion(day, config)
    state, today = dict(state), []
    for user, second in zip(who.tolist(), np.sort(random.integers(86_400, size=count)).tolist(), strict=True):
        series, part = state[user] = _next(user, state.get(user), fashion, random, config)
        rating = 5 - min(4, int(random.geometric(0.5)) - 1)
        today.append(Event(user, series, part, rating, midnight + timedelta(seconds=second), random.random() < LATE))
    return today, state


def _next(
    user: int, last: tuple[int, int] | None, fashion: np.ndarray, random: np.random.Generator, config: SyntheticConfig
) -> tuple[int, int]:
    luck = random.random()
    if last is not None and luck < config.next_part and last[1] + 1 < config.parts:
        return last[0], last[1] + 1
    if last is not None and config.next_part <= luck < config.next_part + config.neighbour:
        following = _neighbour(last[0])
        if following < len(fashion) and fashion[following] > 0:
            return following, 0
    return _fashionable(user, fashion, random), 0


def _neighbour(series: int) -> int:
    """The series that follows in its ring: every `RING` series of one category, in the order in which they come out."""
    rank, category = divmod(series, len(CATEGORIES))
    following = rank + 1 if (rank + 1) % RING else rank + 1 - RING
    return following * len(CATEGORIES) + category


def _fashionable(user: int, fashion: np.ndarray, random: np.random.Generator) -> int:
    """A series drawn by fashion, from one of the user's two categories or, now and then, from all."""
    weights = fashion
    if random.random() < FAVOURITE:
        liked = (user + int(random.integers(2))) % len(CATEGORIES)
        of_its_kind = np.where(np.arange(len(fashion)) % len(CATEGORIES) == liked, fashion, 0)
        weights = of_its_kind if of_its_kind.any() else fashion
    reached = np.cumsum(weights)
    return int(np.searchsorted(reached, random.random() * reached[-1], side="right"))


def _fashion(day: int, config: SyntheticConfig) -> np.ndarray:
    """Weight of each series on a day, (series,): 0 until it is out, most a week later, then fading to a tenth.

    The series of day 0 came out evenly over a time half as long again as the past.
    """
    number = np.arange(series_count(max(0, day), config))
    before = (number + 1 - config.series) / config.series * 1.5 * config.past_days
    age = day - np.where(number < config.series, before, number + 1 - config.series)
    rise_and_fall = np.clip(age + 1, 0, None) / 7 * np.exp(1 - np.clip(age + 1, 0, None) / 7)
    return np.where(age >= 0, 0.1 + rise_and_fall, 0)


def _arriving(day: int, config: SyntheticConfig) -> list[Event]:
    """Events in the file of a day: those of the day that are not late, and the late ones of the day before."""
    by_day = events(day, config)
    before = by_day[:-1] if day == 0 else [[event for event in by_day[-2] if event.late]]
    return [*(event for earlier in before for event in earlier), *(event for event in by_day[-1] if not event.late)]


def _coming_out(day: int, config: SyntheticConfig) -> range:
    return range(0 if day == 0 else series_count(day - 1, config), series_count(day, config))


def _write_log(path: Path, arriving: list[Event]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    good = [
        (f"u{event.user:05d}", item_id(event.series, event.part), event.rating, int(event.time.timestamp()))
        for event in arriving
    ]
    rows = [*good, good[0], good[-1]]
    example = good[-1]
    if path.suffix == ".parquet":
        _parquet([*rows, (None, *example[1:]), (*example[:3], None), (example[0], None, *example[2:])], path)
        return path
    if ".jsonl" in path.suffixes:
        content = zstandard.compress(_jsonl(rows))
    else:
        bad: list[tuple[Any, ...]] = [("", *example[1:]), (*example[:3], "yesterday"), (example[0], "", *example[2:])]
        content = _csv([COLUMNS, *rows, *bad])
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


def _csv(rows: list[tuple[Any, ...]]) -> bytes:
    return "".join(",".join(map(str, row)) + "\n" for row in rows).encode()


def _jsonl(rows: list[tuple[Any, ...]]) -> bytes:
    timed = [(*row[:3], datetime.fromtimestamp(row[3], UTC).isoformat()) for row in rows]
    good = [json.dumps(dict(zip(COLUMNS, row, strict=True))) for row in timed]
    user, item, rating, time = timed[-1]
    bad = [
        json.dumps({"itemId": item, "rating": rating, "timestamp": time}),
        json.dumps({"userId": user, "itemId": item, "rating": rating, "timestamp": "yesterday"}),
        good[-1][:20],
    ]
    return "".join(f"{line}\n" for line in [*good, *bad]).encode()


def _parquet(rows: list[tuple[Any, ...]], path: Path) -> None:
    types = {"userId": pl.String, "itemId": pl.String, "rating": pl.Int64, "timestamp": pl.Int64}
    pl.DataFrame(rows, schema=types, orient="row").write_parquet(path)


def _write_items(path: Path, coming_out: range, config: SyntheticConfig) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        (item_id(series, part), title(series, part), f"Games|{CATEGORIES[series % len(CATEGORIES)]}")
        for series in coming_out
        for part in range(config.parts)
    ]
    path.write_bytes(_csv([("itemId", "title", "categories"), *rows]))
    return path
