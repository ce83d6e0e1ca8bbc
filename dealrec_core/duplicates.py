"""Which events are there already: in the same load, or in the lake."""

import polars as pl

from dealrec_core import schema

IDENTITY = [schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP, schema.EVENT_TYPE]
"""Tells events apart that have no id of their own."""


def identity_hash() -> pl.Expr:
    """64 bits over IDENTITY; equal for equal events, so unequal hashes tell events apart."""
    parts = [pl.col(name).hash(seed) for seed, name in enumerate(IDENTITY)]
    return parts[0] ^ parts[1] ^ parts[2] ^ parts[3]


def without_repeats(rows: pl.DataFrame, *, order: list[str]) -> pl.DataFrame:
    """The first (by `order`) of every set of equal events; rows with an id of their own stay. Needs a column `hash`.

    Only rows whose hash occurs twice are compared in full.
    """
    is_candidate = rows["hash"].is_duplicated() & rows[schema.EVENT_ID].is_null()
    if not is_candidate.any():
        return rows
    candidates = rows.filter(is_candidate).sort(order).unique(IDENTITY, keep="first", maintain_order=True)
    return pl.concat([rows.filter(~is_candidate), candidates])


def without_known(rows: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Rows without those that are in `known` (IDENTITY); rows with an id of their own stay. Needs a column `hash`."""
    if known.is_empty():
        return rows
    hashes = known.select(identity_hash()).to_series()
    is_candidate = rows["hash"].is_in(hashes.implode()) & rows[schema.EVENT_ID].is_null()
    if not is_candidate.any():
        return rows
    candidates = rows.filter(is_candidate).join(known, on=IDENTITY, how="anti")
    return pl.concat([rows.filter(~is_candidate), candidates])
