"""Features of a sample that need no model: its target's category and popularity, its time, its user."""

from collections.abc import Mapping

import numpy as np
import polars as pl

from dealrec_core import schema
from dealrec_core.samples.items import Catalogue


def of(samples: pl.DataFrame, catalogue: Catalogue, counts: Mapping[str, float]) -> dict[str, np.ndarray]:
    """category, popularity, recency, history_length and owner of each sample (SAMPLES columns), each (N,).

    counts: interactions of each item. A log without real times gives one recency to all: one class.
    """
    targets = samples[schema.ITEM_ID].to_list()
    return {
        "category": categories_of(samples, catalogue),
        "popularity": np.array([counts.get(item, 0) for item in targets], dtype=np.float64),
        "recency": samples[schema.TIMESTAMP].to_physical().to_numpy().astype(np.float64),
        "history_length": samples[schema.HISTORY].list.len().to_numpy().astype(np.int64),
        "owner": samples[schema.USER_ID].rank("dense").to_numpy().astype(np.int64) - 1,
    }


def categories_of(samples: pl.DataFrame, catalogue: Catalogue) -> np.ndarray:
    """The number of each sample's category, that of its target, (N,); 0 for a target that the catalogue does not know."""
    category_of = categories(catalogue)
    return np.array([category_of.get(item, 0) for item in samples[schema.ITEM_ID]], dtype=np.int64)


def categories(catalogue: Catalogue) -> dict[str, int]:
    """A number for each item's category, by the first level with several categories; 0 for items without one there."""
    levels = max(map(len, catalogue.categories), default=0)
    for level in range(levels):
        names = [path[level] if level < len(path) else "" for path in catalogue.categories]
        distinct = sorted({name for name in names if name})
        if len(distinct) > 1:
            number = {name: place + 1 for place, name in enumerate(distinct)}
            return {item: number.get(name, 0) for item, name in zip(catalogue.item_ids, names, strict=True)}
    return dict.fromkeys(catalogue.item_ids, 0)
