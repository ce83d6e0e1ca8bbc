"""Input, options and result of every selection method. Each method has a file of its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from dealrec_core.errors import DataError
from dealrec_core.settings.coreset import CoresetConfig


@dataclass(frozen=True)
class Pool:
    """N scored samples to choose from, in an order that depends on their ids alone.

    influence, effort: float64 (N,), finite.
    features: further features of the samples, by name, each (N,) or (N, D).
    reference: features of recent held-out samples, by name, each (M, D), for methods that aim at them.
    """

    influence: np.ndarray
    effort: np.ndarray
    features: Mapping[str, np.ndarray] = field(default_factory=dict)
    reference: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.influence)

    def feature(self, name: str) -> np.ndarray:
        """A feature of the samples; DataError when it was not given."""
        return _array(self.features, name, "column")

    def aim(self, name: str) -> np.ndarray:
        """A feature (M, D) of the reference samples; DataError when it was not given."""
        return _array(self.reference, name, "reference")


class Options(CoresetConfig):
    """The settings of a selection, with the number of samples that they come to and the night's seed."""

    budget: int
    seed: int = 0


@dataclass(frozen=True)
class Choice:
    """Chosen rows with the score and group of every sample.

    rows: int64 (k,), sorted. scores: (N,), by which the method ranks. groups: int64 (N,), all 0 where a method has none.
    effort_share: share of the score's variance that is due to effort, 0 where effort is not used.
    """

    rows: np.ndarray
    scores: np.ndarray
    groups: np.ndarray
    effort_share: float = 0.0


Method = Callable[[Pool, Options], Choice]
"""Chooses `options.budget` rows of a pool."""


def highest(scores: np.ndarray, budget: int) -> np.ndarray:
    """Rows of the `budget` highest scores (N,), sorted; of equal scores the first.

    >>> highest(np.array([0.5, 0.9, 0.5]), 2).tolist()
    [0, 1]
    """
    if budget >= len(scores):
        return np.arange(len(scores))
    if budget == 0:
        return np.zeros(0, dtype=np.int64)
    cut = np.partition(scores, len(scores) - budget)[len(scores) - budget]
    above = np.flatnonzero(scores > cut)
    level = np.flatnonzero(scores == cut)[: budget - len(above)]
    return np.sort(np.concatenate([above, level]))


def ungrouped(scores: np.ndarray, budget: int) -> Choice:
    """The choice of the highest scores, without groups."""
    return Choice(highest(scores, budget), scores, np.zeros(len(scores), dtype=np.int64))


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows (N, D) at length 1; a zero row stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors, dtype=np.float64), where=lengths > 0)


def _array(arrays: Mapping[str, np.ndarray], name: str, kind: str) -> np.ndarray:
    if name not in arrays:
        raise DataError(f"the method needs the {kind} '{name}' (given: {', '.join(sorted(arrays)) or 'none'})")
    return arrays[name]
