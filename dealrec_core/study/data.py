"""The data of a study, and the reader of DEALRec's released format."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from dealrec_core import schema
from dealrec_core.errors import SourceError
from dealrec_core.samples.items import Catalogue
from dealrec_core.samples.split import drawn
from dealrec_core.study.config import DatasetConfig, Judges

START = datetime(1970, 1, 1, tzinfo=UTC)
PERIODS = ("train", "valid", "test")
STEPS = 5
"""Most samples of a user in the past."""


@dataclass(frozen=True)
class StudyData:
    """The samples that coresets are drawn from, and the cases that tuned models are measured on."""

    name: str
    catalogue: Catalogue
    pool: pl.DataFrame
    """Train samples (SAMPLES), sorted by sample_id."""
    past: pl.DataFrame
    """Samples (SAMPLES) of the older half of the train period: all that base models may know."""
    recent: pl.DataFrame
    """Held-out samples of the validation period (SAMPLES): risk, aims and early stopping."""
    cases: pl.DataFrame
    """Users of the test period: user_id, history, targets."""
    counts: dict[str, float]
    """Interactions of each item in the train period, most first, ties by item id."""


def released(name: str, config: DatasetConfig, *, seed: int, judges: Judges = "all") -> StudyData:
    """Reads sequential_{train,valid,test}.txt and items.jsonl; one train sample per user, as in the paper.

    The files hold the order of each user's items and the period, no times: each period is one moment here.

    Raises:
        SourceError: a file is missing, or its lines are not those of the other files.
    """
    train, valid, test = (histories(Path(config.folder) / f"sequential_{period}.txt") for period in PERIODS)
    if not len(train) == len(valid) == len(test):
        raise SourceError(f"{config.folder}: {len(train)}, {len(valid)} and {len(test)} users; the lines must match")
    length = config.history_length
    first, day = timedelta(), timedelta(days=1)
    pool = [
        (user, int(items[-1]), items[:-1][-length:], items[-1], first)
        for user, items in enumerate(train)
        if len(items) > 1
    ]
    recent = [
        (user, int(after[0]), items[-length:], after[0], day)
        for user, (items, after) in enumerate(zip(train, valid, strict=True))
        if items and after
    ]
    futures = [
        (str(user), [*before, *after][-length:], list(dict.fromkeys(future)))
        for user, (before, after, future) in enumerate(zip(train, valid, test, strict=True))
        if future and (before or after)
    ]
    random, counts = np.random.default_rng(seed), Counter(item for items in train for item in items)
    cases = pl.DataFrame(futures, schema=[schema.USER_ID, schema.HISTORY, "targets"], orient="row")
    return StudyData(
        name=name,
        catalogue=_catalogue(Path(config.folder) / "items.jsonl"),
        pool=_samples(pool),
        past=_past(train, length=length),
        recent=drawn(_samples(recent), config.risk_samples, random),
        cases=drawn(judging(cases, judges, seed=seed), config.users, random),
        counts=dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))),
    )


def judging(cases: pl.DataFrame, judges: Judges, *, seed: int) -> pl.DataFrame:
    """The cases of the users that judge, or of those that choose: one bit of a hash of the seed and the user's id decides.

    A user stays in one half whatever other users the log has, so a log that grows does not mix the halves.
    """
    if judges == "all":
        return cases
    digests = (hashlib.sha256(f"{seed} {user}".encode()).digest() for user in cases[schema.USER_ID])
    wanted = int(judges == "judging")
    return cases.filter(pl.Series([digest[0] % 2 == wanted for digest in digests], dtype=pl.Boolean))


def histories(path: Path) -> list[list[str]]:
    """The items of each user, in order of time, in a file sequential_*.txt.

    Raises:
        SourceError: the file cannot be read.
    """
    try:
        return [line.split()[1:] for line in path.read_text("utf-8").splitlines()]
    except OSError as error:
        raise SourceError(f"cannot read '{path}': {error}; name the folder of the data set") from error


def _catalogue(path: Path) -> Catalogue:
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot read '{path}': {error}") from error
    ids = [str(row["item_id"]) for row in rows]
    titles = [str(row.get("title") or item) for item, row in zip(ids, rows, strict=True)]
    return Catalogue(ids, titles, [[str(name) for name in row.get("categories") or []] for row in rows])


def _samples(rows: Iterable[tuple[int, int, list[str], str, timedelta]]) -> pl.DataFrame:
    """Samples of (user, number among the user's samples, history, next item, time since START)."""
    samples = [
        (f"{user:016x}{number:016x}", str(user), target, START + ago, history)
        for user, number, history, target, ago in rows
    ]
    return pl.DataFrame(samples, schema=schema.SAMPLES, orient="row").sort(schema.SAMPLE_ID)


def _past(train: list[list[str]], *, length: int) -> pl.DataFrame:
    """The newest STEPS steps of each user's older half as samples; the last step of every user is at one moment."""
    halves = [items[: len(items) // 2 + 1] for items in train if len(items) > 1]
    return _samples(
        (user, stop, items[max(0, stop - length) : stop], items[stop], timedelta(seconds=stop - len(items)))
        for user, items in enumerate(halves)
        for stop in range(max(1, len(items) - STEPS), len(items))
    )
