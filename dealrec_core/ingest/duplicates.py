"""Which events are there already: in the same load, or in the lake."""

import numpy as np
import polars as pl

from dealrec_core import schema
from dealrec_core.ingest.spill import HASH

IDENTITY = [schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP, schema.EVENT_TYPE]
"""Tells events apart that have no id of their own."""


def identity_hash() -> pl.Expr:
    """64 bits over IDENTITY; equal for equal events, so unequal hashes tell events apart."""
    parts = [pl.col(name).hash(seed) for seed, name in enumerate(IDENTITY)]
    return parts[0] ^ parts[1] ^ parts[2] ^ parts[3]


def without_repeats(rows: pl.DataFrame, *, order: list[str]) -> pl.DataFrame:
    """The first (by `order`) of every set of equal events; rows with an id of their own stay. Needs a column HASH.

    Only rows whose hash occurs twice are compared in full.
    """
    places = (rows[HASH].is_duplicated() & rows[schema.EVENT_ID].is_null()).arg_true()
    if not len(places):
        return rows
    candidates = rows[places].select(*IDENTITY, *order).with_columns(places.alias("place")).sort(order)
    return _without(rows, candidates.filter(~pl.struct(IDENTITY).is_first_distinct())["place"])


def without_known(rows: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Rows without those that are in `known` (IDENTITY); rows with an id of their own stay. Needs a column HASH."""
    if known.is_empty():
        return rows
    hashes = known.select(identity_hash()).to_series()
    places = (rows[HASH].is_in(hashes.implode()) & rows[schema.EVENT_ID].is_null()).arg_true()
    if not len(places):
        return rows
    candidates = rows[places].select(IDENTITY).with_columns(places.alias("place"))
    return _without(rows, candidates.join(known, on=IDENTITY, how="semi")["place"])


def _without(rows: pl.DataFrame, places: pl.Series) -> pl.DataFrame:
    is_kept = np.ones(rows.height, dtype=bool)
    is_kept[places.to_numpy()] = False
    return rows.filter(pl.Series(is_kept))
