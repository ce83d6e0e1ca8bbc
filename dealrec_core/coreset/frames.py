"""Selection on a frame of one's own: any columns, any ids, polars or pandas."""

from typing import Any

import polars as pl

from dealrec_core import schema
from dealrec_core.coreset.methods import NEEDS, method
from dealrec_core.coreset.selection import select
from dealrec_core.errors import DataError
from dealrec_core.settings.coreset import CoresetConfig

SCORE, GROUP = "coreset_score", "coreset_group"


def choose_rows(
    frame: Any,
    config: CoresetConfig = CoresetConfig(),
    *,
    key: str | None = None,
    influence: str = schema.INFLUENCE,
    effort: str = schema.EFFORT,
    seed: int = 0,
) -> pl.DataFrame:
    """The chosen rows of a frame with all their columns, in the frame's order, and two more: coreset_score and coreset_group.

    key: column of distinct ids. With it the choice does not depend on the order of rows; without it rows go by their place.
    influence, effort: columns of the scores. A score that the method does not need may be absent, and a feature that it needs
    is read from the column of that name.

    Raises:
        DataError: there is no row, an id occurs twice, a score is missing or not finite, or the method lacks a column.
        SettingsError: there is no such method.

    >>> frame = pl.DataFrame({"text": ["a", "b", "c"], "gain": [0.1, 0.9, 0.5], "norm": [1.0, 2.0, 1.5]})
    >>> chosen = choose_rows(frame, CoresetConfig(method="greedy", count=2), influence="gain", effort="norm")
    >>> chosen["text"].to_list(), chosen.columns
    (['b', 'c'], ['text', 'gain', 'norm', 'coreset_score', 'coreset_group'])
    """
    method(config.method)
    table = pl.DataFrame(frame)
    columns = {schema.INFLUENCE: influence, schema.EFFORT: effort}
    features = {name: columns.get(name, name) for name in (*columns, *NEEDS[config.method])}
    if absent := [features[name] for name in NEEDS[config.method] if features[name] not in table.columns]:
        has = ", ".join(table.columns)
        raise DataError(f"method '{config.method}' needs the column '{absent[0]}'; the frame has {has}")
    rows = pl.int_range(pl.len()) if key is None else pl.col(key)
    ids = table.select(rows.cast(pl.String).alias(schema.SAMPLE_ID)).to_series()
    scores = table.select(ids, *(_column(table, column).alias(name) for name, column in features.items()))
    chosen = select(scores, config, seed=seed).frame.select(
        schema.SAMPLE_ID, pl.col(schema.SCORE).alias(SCORE), pl.col(schema.GROUP).alias(GROUP)
    )
    place = "place of the row"
    places = pl.DataFrame({schema.SAMPLE_ID: ids}).with_row_index(place).join(chosen, on=schema.SAMPLE_ID).sort(place)
    return table[places[place]].with_columns(places[SCORE], places[GROUP])


def _column(table: pl.DataFrame, name: str) -> pl.Expr:
    return pl.col(name) if name in table.columns else pl.lit(None, dtype=pl.Float64)
