"""Removes events that are there already: in the same delivery, or in the lake."""

import polars as pl

from dealrec_core import schema
from dealrec_core.ingest.raw.batch import HASH

IDENTITY = [schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP, schema.EVENT_TYPE]
"""The columns that tell events apart which have no id of their own."""


def identity_hash() -> pl.Expr:
    """Returns a 64-bit hash of IDENTITY: different hashes prove different events, equal hashes need a full comparison."""
    parts = [pl.col(name).hash(seed) for seed, name in enumerate(IDENTITY)]
    return parts[0] ^ parts[1] ^ parts[2] ^ parts[3]


def without_repeats(rows: pl.DataFrame, *, order: list[str]) -> pl.DataFrame:
    """Returns the first (by `order`) of every set of equal events, and all rows with an id of their own. Needs a column HASH.

    Only rows whose hash occurs twice are compared in full.
    """
    places = (rows[HASH].is_duplicated() & rows[schema.EVENT_ID].is_null()).arg_true()
    if not len(places):
        return rows
    candidates = rows[places].select(*IDENTITY, *order).with_columns(places.alias("place")).sort(order)
    return _without(rows, candidates.filter(~pl.struct(IDENTITY).is_first_distinct())["place"])


def without_present(rows: pl.DataFrame, present: pl.DataFrame) -> pl.DataFrame:
    """Returns the rows that are not in `present` (IDENTITY), and all rows with an id of their own. Needs a column HASH."""
    if present.is_empty():
        return rows
    hashes = present.select(identity_hash()).to_series()
    places = (rows[HASH].is_in(hashes.implode()) & rows[schema.EVENT_ID].is_null()).arg_true()
    if not len(places):
        return rows
    candidates = rows[places].select(IDENTITY).with_columns(places.alias("place"))
    return _without(rows, candidates.join(present, on=IDENTITY, how="semi")["place"])


def _without(rows: pl.DataFrame, places: pl.Series) -> pl.DataFrame:
    stays = pl.repeat(True, rows.height, dtype=pl.Boolean, eager=True)
    return rows.filter(stays.scatter(places, False) if len(places) else stays)
