"""Selects a coreset from scored samples."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from dealrec_core import schema
from dealrec_core.coreset import budget, ordering
from dealrec_core.coreset.base import Choice, Options, Pool
from dealrec_core.coreset.methods import NEEDS, method
from dealrec_core.errors import DataError
from dealrec_core.settings.coreset import CoresetConfig


@dataclass(frozen=True)
class Selection:
    """The chosen samples, and figures about the choice."""

    frame: pl.DataFrame
    """CORESETS without the night, sorted by sample_id."""
    report: dict[str, int | float]


def select(
    scores: pl.DataFrame,
    config: CoresetConfig,
    *,
    seed: int,
    by: str | None = None,
    reference: Mapping[str, np.ndarray] | None = None,
    token_budget: int | None = None,
) -> Selection:
    """Chooses samples. The order of rows does not matter, and the same seed gives the same choice.

    scores: columns sample_id, influence, effort, and the features that the method needs: numbers, or arrays of one width
    (see `with_features`). by: any method of `coreset.methods`, for studies; it overrides the configured one. reference: the
    same features of recent held-out samples, each (M, D), for methods that aim at them. token_budget: overrides number and
    share; needs a column `tokens`. All samples are chosen when the budget is not below their number.

    Raises:
        DataError: there is no sample, an id occurs twice, a score is missing or not finite, or the method lacks a column.
        SettingsError: there is no method `by`.

    >>> scores = pl.DataFrame({"sample_id": ["a", "b", "c"], "influence": [0.1, 0.9, 0.5], "effort": [1.0, 2.0, 1.5]})
    >>> select(scores, CoresetConfig(method="greedy", count=2), seed=0).frame["sample_id"].to_list()
    ['b', 'c']
    """
    name = by or config.method
    choose = method(name)
    if scores.is_empty():
        raise DataError("no scored sample to select from; the train slice is empty")
    order = _order(scores[schema.SAMPLE_ID])
    columns = Columns(_without_nulls(scores, name), order)
    pool = Pool(columns[schema.INFLUENCE], columns[schema.EFFORT], features=columns, reference=reference or {})

    def chosen(count: int) -> Choice:
        return choose(pool, Options(**config.model_dump(), budget=count, seed=seed))

    choice = (
        chosen(budget.samples(config, len(pool)))
        if token_budget is None
        else within(token_budget, chosen, pool.feature("tokens"))
    )
    frame = scores[order[choice.rows]].select(
        schema.SAMPLE_ID,
        pl.Series(schema.SCORE, choice.scores[choice.rows].astype(np.float64)),
        pl.col(schema.INFLUENCE, schema.EFFORT).cast(pl.Float64),
        pl.Series(schema.GROUP, choice.groups[choice.rows].astype(np.int32)),
        pl.lit(f"{name}: {len(choice.rows)} of {len(pool)}").alias(schema.REASON),
    )
    report: dict[str, int | float] = {
        "samples": len(pool),
        "chosen": len(choice.rows),
        "groups with samples": int(np.count_nonzero(np.bincount(choice.groups))),
        "groups covered": int(np.count_nonzero(np.bincount(choice.groups[choice.rows]))),
        "score variance due to effort": round(choice.effort_share, 4),
        "score variance due to influence": round(1 - choice.effort_share, 4) if np.ptp(choice.scores) else 0.0,
    }
    if "tokens" in pool.features:
        report["tokens of an epoch"] = int(pool.features["tokens"][choice.rows].sum())
    return Selection(frame.sort(schema.SAMPLE_ID), report)


def with_features(scores: pl.DataFrame, features: Mapping[str, np.ndarray]) -> pl.DataFrame:
    """The scores with one more column per feature: numbers (N,), or vectors (N, D) in float32; rows in the same order."""
    return scores.with_columns(
        [
            pl.Series(name, values)
            if values.ndim == 1
            else pl.Series(name, values.astype(np.float32), dtype=pl.Array(pl.Float32, values.shape[1]))
            for name, values in features.items()
        ]
    )


def within(token_budget: int, chosen: Callable[[int], Choice], tokens: np.ndarray) -> Choice:
    """The choice of k samples that fits into the budget while that of k + 1 does not (or there are no more), by bisection.

    Raises:
        DataError: not even one sample fits.
    """
    fits, over = 0, len(tokens) + 1
    best = None
    guess = int(np.clip(token_budget / max(tokens.mean(), 1e-9), 1, len(tokens)))
    while over - fits > 1:
        choice = chosen(guess)
        if tokens[choice.rows].sum() <= token_budget:
            fits, best = guess, choice
        else:
            over = guess
        guess = (fits + over) // 2
    if best is None:
        raise DataError(
            f"no sample fits into {token_budget} tokens, the shortest has {int(tokens.min())}; raise coreset.tokens"
        )
    return best


def _order(ids: pl.Series) -> np.ndarray:
    """Rows of the ids in an order that depends on the ids alone, (N,).

    Content hashes are compared by their first 16 hexadecimal digits as numbers, thirty times faster than as text; where two
    hashes agree in these digits, or an id is no hash, all ids are compared as text.
    """
    if ids.null_count():
        raise DataError(f"{ids.null_count()} scored samples have no {schema.SAMPLE_ID}; build the samples again")
    keys = ids.str.slice(0, 16).str.to_integer(base=16, dtype=pl.UInt64, strict=False)
    if keys.null_count() == 0:
        numbers = keys.to_numpy()
        order = ordering.argsort(numbers)
        ascending = numbers[order]
        if (ascending[1:] != ascending[:-1]).all():
            return order
    twice = ids.filter(ids.is_duplicated())
    if len(twice):
        raise DataError(f"sample '{twice[0]}' is scored more than once; give each sample one row")
    return ids.arg_sort().to_numpy()


def _without_nulls(scores: pl.DataFrame, name: str) -> pl.DataFrame:
    """The scores with zeros for a score that the method does not need and that was not computed."""
    unneeded = {schema.INFLUENCE, schema.EFFORT} - set(NEEDS[name])
    absent = [column for column in sorted(unneeded) if scores[column].null_count() == len(scores)]
    return scores.with_columns(pl.lit(0.0).alias(column) for column in absent)


class Columns(Mapping[str, np.ndarray]):
    """Columns of a frame as arrays in another order; a column is checked and ordered at its first use."""

    def __init__(self, frame: pl.DataFrame, order: np.ndarray) -> None:
        self._frame, self._order = frame.drop(schema.SAMPLE_ID), order
        self._ids = frame[schema.SAMPLE_ID]
        self._arrays: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self:
            raise KeyError(name)
        if name not in self._arrays:
            self._arrays[name] = _finite(self._frame[name], self._ids)[self._order]
        return self._arrays[name]

    def __contains__(self, name: object) -> bool:
        return name in self._frame.columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._frame.columns)

    def __len__(self) -> int:
        return self._frame.width


def _finite(column: pl.Series, ids: pl.Series) -> np.ndarray:
    """A column as finite numbers, (N,) or (N, D); ids: names of its rows for errors."""
    dtype = column.dtype if column.dtype.is_nested() else pl.Float64()
    values = column.cast(dtype).to_numpy()
    if values.dtype == object:
        raise DataError(
            f"{column.name} is {column.dtype} with missing values; it must be an array of one width without nulls"
        )
    bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        fault = f"{column.name} of sample '{ids[row]}' is {values[row]}"
        raise DataError(f"{fault} ({bad.sum()} such); score the samples again")
    return values
