"""The catalogue: item ids with titles and categories. Titles may repeat and are never a key."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from dealrec_core import schema


@dataclass(frozen=True)
class Catalogue:
    """V items in a fixed order.

    item_ids: distinct.
    titles: '' never occurs; an item without a title has its id as title.
    categories: general to special, may be empty.

    >>> games = Catalogue(["i1", "i2"], ["Chess", "Go"], [["board"], []])
    >>> len(games), games.place["i2"], games.title_of["i1"]
    (2, 1, 'Chess')
    """

    item_ids: list[str]
    titles: list[str]
    categories: list[list[str]]

    def __len__(self) -> int:
        return len(self.item_ids)

    @cached_property
    def place(self) -> dict[str, int]:
        """Row of each item id."""
        return {item: row for row, item in enumerate(self.item_ids)}

    @cached_property
    def title_of(self) -> dict[str, str]:
        """Title of each item id."""
        return dict(zip(self.item_ids, self.titles, strict=True))


def catalogue(items: pl.DataFrame, interactions: pl.DataFrame) -> Catalogue:
    """Every item of `items` (ITEMS) and of `interactions` (needs item_id, timestamp), ordered by first interaction, then id.

    Items without an interaction come last. An item seen only in the log gets its id as title.

    >>> items = pl.DataFrame({"item_id": ["i1"], "title": ["Chess"], "categories": [["board"]]})
    >>> log = pl.DataFrame({"item_id": ["i2", "i1"], "timestamp": [1, 2]})
    >>> catalogue(items, log).titles
    ['i2', 'Chess']
    """
    seen = interactions.group_by(schema.ITEM_ID).agg(pl.col(schema.TIMESTAMP).min())
    union = seen.join(items, on=schema.ITEM_ID, how="full", coalesce=True)
    ordered = union.sort(schema.TIMESTAMP, schema.ITEM_ID, nulls_last=True)
    titles = ordered.select(
        pl.when(pl.col(schema.TITLE).str.strip_chars().str.len_chars() > 0)
        .then(pl.col(schema.TITLE))
        .otherwise(pl.col(schema.ITEM_ID))
    ).to_series()
    return Catalogue(
        item_ids=ordered[schema.ITEM_ID].to_list(),
        titles=titles.to_list(),
        categories=[list(names or []) for names in ordered[schema.CATEGORIES].to_list()],
    )


def interaction_counts(interactions: pl.LazyFrame) -> dict[str, float]:
    """Number of interactions of each item, the most popular first; of equal numbers the lower item_id first.

    >>> interaction_counts(pl.LazyFrame({"item_id": ["b", "a", "c", "c"]}))
    {'c': 2.0, 'a': 1.0, 'b': 1.0}
    """
    counts = interactions.group_by(schema.ITEM_ID).len().sort("len", schema.ITEM_ID, descending=[True, False]).collect()
    return dict(zip(counts[schema.ITEM_ID].to_list(), counts["len"].cast(pl.Float64).to_list(), strict=True))


def numbers(samples: pl.DataFrame, item_ids: Sequence[str]) -> np.ndarray:
    """Place of each sample's target in `item_ids`, int64 (N,)."""
    place = {item: row for row, item in enumerate(item_ids)}
    return np.array([place[item] for item in samples[schema.ITEM_ID]], dtype=np.int64)
