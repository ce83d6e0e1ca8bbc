"""The catalogue as a night may know it."""

import polars as pl

from dealrec_core import schema
from dealrec_core.lake.nights import Night
from dealrec_core.samples import items
from dealrec_core.samples.items import Catalogue
from tasks.ingest import boundaries_of


def log_before_test(night: Night) -> pl.LazyFrame:
    """Interactions before the held-out slice: all that training, item statistics and the tokenizer may see."""
    log = night.lake.scan("interactions", night.need("ingest").version)
    return log.filter(pl.col(schema.TIMESTAMP) < boundaries_of(night).test_start)


def log_before_validation(night: Night) -> pl.LazyFrame:
    """Interactions before the validation slice: the train period."""
    log = night.lake.scan("interactions", night.need("ingest").version)
    return log.filter(pl.col(schema.TIMESTAMP) < boundaries_of(night).validation_start)


def known_catalogue(night: Night) -> Catalogue:
    """Items with an interaction before the held-out slice, with their titles; ordered by first interaction."""
    seen = log_before_test(night).select(schema.ITEM_ID, schema.TIMESTAMP).collect()
    return items.catalogue(_titles(night).join(seen, on=schema.ITEM_ID, how="semi"), seen)


def full_catalogue(night: Night) -> Catalogue:
    """Every item of the catalogue and of the log before the held-out slice: what a recommender may answer with."""
    seen = log_before_test(night).select(schema.ITEM_ID, schema.TIMESTAMP).collect()
    return items.catalogue(_titles(night), seen)


def _titles(night: Night) -> pl.DataFrame:
    version = int(night.need("ingest").facts["items version"] or 0)
    if version < 0:
        return pl.DataFrame(schema=schema.ITEMS)
    return night.lake.scan("items", version).collect().sort(schema.ITEM_ID)
