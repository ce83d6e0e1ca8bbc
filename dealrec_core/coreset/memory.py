"""Coresets of earlier nights that are learnt again beside tonight's, so that nights add up."""

from collections.abc import Sequence

import polars as pl

from dealrec_core import schema


def remembered(chosen: pl.DataFrame, pool: pl.DataFrame, *, nights: Sequence[str], most: int) -> pl.DataFrame:
    """The samples of the pool that a night of `nights` chose, at most `most`: the first nights first, then by sample_id.

    chosen: columns night and sample_id. pool: the samples that may be learnt again. A sample counts once, for the first of
    the nights that chose it.

    >>> chosen = pl.DataFrame({"night": ["1", "1", "2", "2"], "sample_id": ["a", "b", "b", "c"]})
    >>> pool = pl.DataFrame({"sample_id": ["a", "b", "c"]})
    >>> remembered(chosen, pool, nights=["2", "1"], most=2)["sample_id"].to_list()
    ['b', 'c']
    """
    ages = pl.DataFrame(
        {schema.NIGHT: nights, "age": range(len(nights))}, schema={schema.NIGHT: pl.String, "age": pl.Int64}
    )
    youngest = chosen.join(ages, on=schema.NIGHT).group_by(schema.SAMPLE_ID).agg(pl.col("age").min())
    samples = pool.join(youngest, on=schema.SAMPLE_ID).sort("age", schema.SAMPLE_ID)
    return samples.head(most).drop("age").sort(schema.SAMPLE_ID)
