"""A seeded interaction log that grows every day, for the demo and for tests.

Every item is a part of a series ("Crimson Harbor 1", "Crimson Harbor 2", …) in a category. A user has two favourite categories.
After an item he takes the next part of its series (most often), a part of a neighbouring series of its category, or what is
popular on that day; series come into fashion and go out of it, and users and items are added every day.

Files below the folder: `log/<date>.*` in a format that changes with the day (csv, csv.gz, jsonl.zst, parquet) with the columns
userId, itemId, rating and timestamp (epoch seconds, ISO 8601 in JSONL), and `items/<date>.csv` with itemId, title and categories.
A few rows of each day are bad, doubled or late, as in the wild.
"""

import gzip
import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import zstandard
from pydantic import BaseModel, ConfigDict, Field

FIRST = ("Crimson", "Silent", "Golden", "Frozen", "Hidden", "Broken", "Electric", "Ancient", "Velvet", "Savage", "Lunar", "Hollow")
SECOND = ("Harbor", "Kingdom", "Circuit", "Garden", "Empire", "Canyon", "Signal", "Tower", "Voyage", "Legacy", "Storm", "Orchard")
CATEGORIES = ("Racing", "Puzzle", "Strategy", "Adventure", "Sports", "Role Playing")


class SyntheticConfig(BaseModel):
    """Size and habits of the log."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    seed: int = 0
    start: date = date(2026, 1, 1)
    """Day 0, up to which the past is written at once."""
    past_days: int = Field(default=60, ge=1)
    users: int = Field(default=400, ge=2)
    """On day 0; two per cent more every day."""
    series: int = Field(default=72, ge=6, le=len(FIRST) * len(SECOND))
    """On day 0; one more every day."""
    parts: int = Field(default=5, ge=2)
    events_a_day: int = Field(default=200, ge=1)
    next_part: float = Field(default=0.6, ge=0, le=1)
    """Chance that the next part of the series follows."""
    neighbour: float = Field(default=0.25, ge=0, le=1)
    """Chance that the first part of the neighbouring series of the category follows."""


@dataclass(frozen=True)
class Event:
    """One row of the log."""

    user: str
    item: str
    rating: int
    time: datetime


def write_day(folder: Path, day: int, config: SyntheticConfig) -> list[Path]:
    """Writes the files of one day (0: the whole past as one file) and returns them. Earlier files are not touched.

    The same config and day give the same bytes, whichever days were written before.
    """
    events = _events(config)
    first = -config.past_days + 1 if day == 0 else day
    today = [event for number in range(first, day + 1) for event in events.get(number, [])]
    late = [event for event in events.get(day - 1, []) if _is_late(event)] if day > 0 else []
    rows = [event for event in today if day == 0 or not _is_late(event)] + late
    stamp = (config.start + timedelta(days=day)).isoformat()
    return [_write_log(folder / "log", stamp, day, rows), _write_items(folder / "items", stamp, day, config)]


def _is_late(event: Event) -> bool:
    """One event in a hundred arrives a day late."""
    return int(event.time.timestamp()) % 100 == 7


def _series(day: int, config: SyntheticConfig) -> int:
    return min(config.series + max(0, day), len(FIRST) * len(SECOND))


def _name(series: int) -> str:
    return f"{FIRST[series % len(FIRST)]} {SECOND[(series // len(FIRST) + series) % len(SECOND)]}"


def _item(series: int, part: int) -> str:
    return f"i{series:03d}{part + 1:02d}"


def _events(config: SyntheticConfig) -> dict[int, list[Event]]:
    """All events up to well after day 0, by day; days do not depend on how many are asked for."""
    random = np.random.default_rng(config.seed)
    state: dict[int, tuple[int, int]] = {}
    found: dict[int, list[Event]] = {}
    for day in range(-config.past_days + 1, 31):
        users = int(config.users * (1.02 ** max(0, day)))
        found[day] = [_event(day, int(user), state, random, config) for user in random.integers(users, size=config.events_a_day)]
        found[day].sort(key=lambda event: (event.time, event.user))
    return found


def _event(
    day: int, user: int, state: dict[int, tuple[int, int]], random: np.random.Generator, config: SyntheticConfig
) -> Event:
    series, part = _next(day, user, state.get(user), random, config)
    state[user] = (series, part)
    moment = datetime.combine(config.start + timedelta(days=day), datetime.min.time(), UTC)
    time = moment + timedelta(seconds=int(random.integers(86_400)))
    return Event(f"u{user:05d}", _item(series, part), int(random.integers(2, 6)), time)


def _next(
    day: int, user: int, last: tuple[int, int] | None, random: np.random.Generator, config: SyntheticConfig
) -> tuple[int, int]:
    luck = random.random()
    if last is not None and luck < config.next_part and last[1] + 1 < config.parts:
        return last[0], last[1] + 1
    if last is not None and luck < config.next_part + config.neighbour:
        return _neighbour(last[0], _series(day, config)), 0
    return _fashionable(day, user, random, config), 0


def _neighbour(series: int, count: int) -> int:
    """The series that follows in its category."""
    after = series + len(CATEGORIES)
    return after if after < count else after % len(CATEGORIES)


def _fashionable(day: int, user: int, random: np.random.Generator, config: SyntheticConfig) -> int:
    """A series of one of the user's two categories; what is in fashion moves on by one series every other day."""
    count = _series(day, config)
    category = (user + int(random.integers(2))) % len(CATEGORIES)
    options = np.arange(category, count, len(CATEGORIES))
    distance = (options // len(CATEGORIES) - (day + config.past_days) // 10) % len(options)
    weights = 1.0 / (1.0 + distance)
    return int(random.choice(options, p=weights / weights.sum()))


def _write_log(folder: Path, stamp: str, day: int, events: list[Event]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    form = ("csv", "csv.gz", "jsonl.zst", "parquet")[day % 4]
    path = folder / f"{stamp}.{form}"
    if form == "parquet":
        _frame(events).write_parquet(path)
        return path
    lines = _csv(events) if form.startswith("csv") else _jsonl(events)
    content = "".join(f"{line}\n" for line in lines).encode()
    if form.endswith("gz"):
        content = gzip.compress(content, mtime=0)
    elif form.endswith("zst"):
        content = zstandard.compress(content)
    path.write_bytes(content)
    return path


def _csv(events: list[Event]) -> list[str]:
    rows = [f"{event.user},{event.item},{event.rating},{int(event.time.timestamp())}" for event in events]
    return ["userId,itemId,rating,timestamp", *rows, rows[0], rows[-1], ",i00001,4,1767225600", "u00001,i00001,4,yesterday", "u00002,,5,1767225600"]


def _jsonl(events: list[Event]) -> list[str]:
    rows = [
        json.dumps({"userId": event.user, "itemId": event.item, "rating": event.rating, "timestamp": event.time.isoformat()})
        for event in events
    ]
    return [*rows, rows[0], '{"userId": "u00001", "itemId": "i00001", "rating": "good", "timestamp": 1767225600}', '{"userId": "u00001"']


def _frame(events: list[Event]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "userId": [event.user for event in events],
            "itemId": [event.item for event in events],
            "rating": [event.rating for event in events],
            "timestamp": [int(event.time.timestamp()) for event in events],
        }
    )


def _write_items(folder: Path, stamp: str, day: int, config: SyntheticConfig) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    first = 0 if day == 0 else _series(day - 1, config)
    lines = ["itemId,title,categories"]
    for series in range(first, _series(day, config)):
        category = CATEGORIES[series % len(CATEGORIES)]
        lines += [f"{_item(series, part)},{_name(series)} {part + 1},Games|{category}" for part in range(config.parts)]
    path = folder / f"{stamp}.csv"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path
