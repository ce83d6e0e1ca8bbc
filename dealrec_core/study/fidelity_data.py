"""The popular part of MovieLens-small or Games as equally long samples, small enough to refit a surrogate hundreds of
times."""

from pathlib import Path

import numpy as np
import polars as pl

from dealrec_core.errors import DataError, SourceError
from dealrec_core.samples.sequences import Sequences
from dealrec_core.study.data import histories


def movielens(folder: Path) -> pl.DataFrame:
    """Columns user and item: the movies that each user rated 4 or more, in order of time."""
    path = folder / "ratings.csv"
    if not path.is_file():
        raise SourceError(f"no file '{path}'; set `data` to the folder of the data set")
    ratings = pl.read_csv(path, truncate_ragged_lines=True)
    liked = ratings.filter(pl.col("rating") >= 4).sort("userId", "timestamp", "movieId")
    return liked.select(user="userId", item="movieId")


def released(folder: Path) -> pl.DataFrame:
    """Columns user and item: each user's items in the train period, in order of time."""
    users = histories(folder / "sequential_train.txt")
    rows = [(user, int(item)) for user, items in enumerate(users) for item in items]
    return pl.DataFrame(rows, schema=["user", "item"], orient="row")


READERS = {"movielens": movielens, "released": released}


def popular(events: pl.DataFrame, items: int) -> list[list[int]]:
    """Each user's events with the most popular items, numbered by popularity; ties go to the lower item."""
    counts = events.group_by("item").len().sort(["len", "item"], descending=[True, False]).head(items)
    numbered = counts.select("item", pl.int_range(pl.len()).alias("number"))
    of_popular = events.join(numbered, on="item", how="inner", maintain_order="left")
    return of_popular.group_by("user", maintain_order=True).agg("number")["number"].to_list()


def samples(users: list[list[int]], *, history: int, targets: int) -> tuple[Sequences, Sequences]:
    """Train and risk samples with `history` items each: a user's last item is the risk, at most `targets` before it train.

    Raises:
        DataError: no user has history + 2 items.
    """
    users = [items for items in users if len(items) >= history + 2]
    if not users:
        raise DataError(f"no user has {history + 2} popular items; lower history_length or raise items")
    train = [(items, at) for items in users for at in range(max(history, len(items) - 1 - targets), len(items) - 1)]
    return _sequences(train, history), _sequences([(items, len(items) - 1) for items in users], history)


def popularity_loss(train: Sequences, risk: Sequences, *, items: int) -> float:
    """Loss of the risk samples under the frequencies of train targets, each counted once more: what a surrogate must beat."""
    counts = np.bincount(train.targets, minlength=items) + 1
    return float(-np.log(counts / counts.sum())[risk.targets].mean())


def _sequences(places: list[tuple[list[int], int]], history: int) -> Sequences:
    histories = np.array([items[at - history : at] for items, at in places])
    targets = np.array([items[at] for items, at in places])
    return Sequences(histories.ravel(), np.arange(len(places) + 1) * history, targets)
