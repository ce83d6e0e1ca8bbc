"""Our method: DEALRec's rule on ranks, with a floor for every category, popularity class and period.

Influence should be on the risk of the most recent slice (`influence.risk = "recent"`). A share `coverage` of the proportional number
is guaranteed to every category and to every fifth by popularity and by recency; Algorithm 2 (`strata`) or the highest scores
(`highest`) spend the remaining budget and fill the floors.
"""

import itertools
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from dealrec_core.coreset import stratify
from dealrec_core.coreset.base import Choice, Options, Pool, highest
from dealrec_core.coreset.dealrec import overall

CLASSES = 5
"""Popularity and recency are cut into fifths."""


def choose(pool: Pool, options: Options) -> Choice:
    """Fills the floors, the rarest value first, then spends the remaining budget.

    Features: `category` (N,) numbers, `popularity` and `recency` (N,).
    """
    scores, share = overall(pool, options)
    membership = stratify.groups(scores, options.groups)
    with ThreadPoolExecutor(2) as threads:
        traits = list(threads.map(partial(_classes, pool), ("category", "popularity", "recency")))
    chosen = np.zeros(len(pool), dtype=bool)
    for members, floor in floors(traits, options):
        missing = floor - int(chosen[members].sum())
        if missing > 0:
            chosen[_filled(scores, membership, members[~chosen[members]], missing, options)] = True
    remaining = options.budget - int(chosen.sum())
    chosen[_filled(scores, membership, np.flatnonzero(~chosen), remaining, options)] = True
    return Choice(np.flatnonzero(chosen), scores, membership, share)


def _filled(scores: np.ndarray, membership: np.ndarray, rows: np.ndarray, budget: int, options: Options) -> np.ndarray:
    """`budget` of the rows, by the rule of the settings."""
    if options.fill == "highest":
        return rows[highest(scores[rows], budget)]
    return stratify.spread(membership, rows, budget, seed=options.seed)


def floors(traits: list[np.ndarray], options: Options) -> list[tuple[np.ndarray, int]]:
    """Pairs (rows, least number of them) for every value of every trait, small integers (N,), the rarest value first.

    floor(coverage · budget · share of the value): over T traits at most T · coverage · budget, so coverage <= 1/T always fits.
    """
    with ThreadPoolExecutor(2) as threads:
        by_trait = threads.map(partial(_floors_of, options=options), traits)
        return sorted(itertools.chain.from_iterable(by_trait), key=lambda floor: len(floor[0]))


def _floors_of(codes: np.ndarray, options: Options) -> list[tuple[np.ndarray, int]]:
    sizes = np.bincount(codes)
    least = (options.coverage * options.budget * sizes / len(codes)).astype(np.int64)
    by_code = np.argsort(codes, kind="stable")  # a radix sort where two bytes hold them: linear in N
    ends = np.cumsum(sizes)
    return [(by_code[ends[code] - sizes[code] : ends[code]], int(least[code])) for code in np.flatnonzero(least)]


def _classes(pool: Pool, trait: str) -> np.ndarray:
    """Every category is a class, popularity and recency are cut into fifths."""
    values = pool.feature(trait)
    return numbered(values) if trait == "category" else fifths(values)


def numbered(values: np.ndarray) -> np.ndarray:
    """The place of each value (N,) among the distinct ones, in as few bytes as hold it."""
    distinct = np.unique(values)
    return np.searchsorted(distinct, values).astype(np.min_scalar_type(len(distinct)))


def fifths(values: np.ndarray) -> np.ndarray:
    """0..4 by rank, (N,): floor(5 · share of the samples with a smaller value); equal values stay together."""
    starts = -(-np.arange(1, CLASSES) * len(values) // CLASSES)  # number of smaller values at the start of each class
    last = np.unique(np.maximum(starts - 1, 0))
    edges = np.partition(values, last)[np.maximum(starts - 1, 0)]
    classes = np.zeros(len(values), dtype=np.int8)
    for edge in edges:
        classes += values > edge
    return classes
