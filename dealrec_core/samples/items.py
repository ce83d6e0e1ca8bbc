"""The catalogue: item ids with titles and categories. Titles may repeat and are never a key."""

from dataclasses import dataclass
from functools import cached_property

import polars as pl

from dealrec_core import schema


@dataclass(frozen=True)
class Catalogue:
    """V items in a fixed order.

    item_ids: distinct. titles: '' never occurs; an item without a title carries its id as title.
    categories: general to special, may be empty.
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

    Items that nobody has touched yet come last. An item seen only in the log gets its id as title.
    """
    seen = interactions.group_by(schema.ITEM_ID).agg(pl.col(schema.TIMESTAMP).min())
    known = seen.join(items, on=schema.ITEM_ID, how="full", coalesce=True)
    ordered = known.sort(schema.TIMESTAMP, schema.ITEM_ID, nulls_last=True)
    titles = ordered.select(
        pl.when(pl.col(schema.TITLE).str.strip_chars().str.len_chars() > 0)
        .then(pl.col(schema.TITLE))
        .otherwise(pl.col(schema.ITEM_ID))
    ).to_series()
    return Catalogue(
        item_ids=ordered[schema.ITEM_ID].to_list(),
        titles=titles.to_list(),
        categories=[list(found or []) for found in ordered[schema.CATEGORIES].to_list()],
    )
