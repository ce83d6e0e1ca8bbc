"""The released Games split, as benchmarks read it."""

import json
from pathlib import Path

import numpy as np
import polars as pl

from dealrec_core import schema
from dealrec_core.samples.items import Catalogue
from dealrec_core.samples.sequences import Sequences


class Games:
    """Catalogue and the items of each user in the three periods, oldest first."""

    def __init__(self, folder: Path) -> None:
        lines = (folder / "items.jsonl").read_text(encoding="utf-8").splitlines()
        items = [json.loads(line) for line in lines]
        ids = [str(item["item_id"]) for item in items]
        titles = [item["title"].strip() or name for item, name in zip(items, ids, strict=True)]
        self.catalogue = Catalogue(ids, titles, [item["categories"] for item in items])
        self.train, self.valid, self.test = (
            [line.split()[1:] for line in (folder / f"sequential_{part}.txt").read_text().splitlines()]
            for part in ("train", "valid", "test")
        )

    def log(self, *parts: list[list[str]]) -> pl.DataFrame:
        """The interactions of some periods, user_id and item_id."""
        rows = [(str(user), item) for part in parts for user, items in enumerate(part) for item in items]
        return pl.DataFrame(rows, schema={schema.USER_ID: pl.String, schema.ITEM_ID: pl.String}, orient="row")

    def sequences(self, *, period: str, most: int | None = None) -> Sequences:
        """(history, next item) of the train or validation period, at most the newest `most` of each user."""
        place, cut = self.catalogue.place, []
        for before, after in zip(self.train, self.valid, strict=True):
            whole = before if period == "train" else [*before, *after]
            first = 1 if period == "train" else max(1, len(before))
            stops = range(first if most is None else max(first, len(whole) - most), len(whole))
            cut += [([place[item] for item in whole[:stop]], place[whole[stop]]) for stop in stops]
        offsets = np.concatenate([[0], np.cumsum([len(history) for history, _ in cut])])
        flat = np.array([item for history, _ in cut for item in history])
        return Sequences(flat, offsets, np.array([target for _, target in cut]))

    def cases(self) -> pl.DataFrame:
        """Users with a history and test items, in random order: history (train and validation period) and targets."""
        found = [
            (str(user), [*before, *after], wanted)
            for user, (before, after, wanted) in enumerate(zip(self.train, self.valid, self.test, strict=True))
            if wanted and (before or after)
        ]
        frame = pl.DataFrame(found, schema=[schema.USER_ID, schema.HISTORY, "targets"], orient="row")
        return frame[np.random.default_rng(0).permutation(len(frame))]
