"""Selection methods: scores in, chosen rows out."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dealrec_core.coreset import stratify
from dealrec_core.coreset.combine import Normalisation, combine


@dataclass(frozen=True)
class Choice:
    """Chosen rows with the score and group of every sample.

    rows: int64 (k,), sorted. scores: (N,). groups: int64 (N,), all 0 where a method has none.
    """

    rows: np.ndarray
    scores: np.ndarray
    groups: np.ndarray
    effort_share: float


@dataclass(frozen=True)
class Options:
    """What methods are told beside the scores."""

    budget: int
    groups: int
    effort_weight: float
    normalisation: Normalisation
    hard_prune: float
    seed: int


def dealrec(influence: np.ndarray, effort: np.ndarray, options: Options) -> Choice:
    """Influence plus effort, drawn with coverage over score groups (paper, Algorithm 2)."""
    scores, share = _combined(influence, effort, options)
    eligible = _pruned(scores, options)
    groups = np.zeros(len(scores), dtype=np.int64)
    groups[eligible] = stratify.groups(scores[eligible], options.groups)
    taken = stratify.allot(np.bincount(groups[eligible], minlength=options.groups), options.budget)
    rows = eligible[stratify.draw(groups[eligible], taken, seed=options.seed)]
    return Choice(rows, scores, groups, share)


def greedy(influence: np.ndarray, effort: np.ndarray, options: Options) -> Choice:
    """The highest scores, no coverage (the paper's ablation); of equal scores the first."""
    scores, share = _combined(influence, effort, options)
    eligible = _pruned(scores, options)
    best = eligible[np.argsort(-scores[eligible], kind="stable")[: options.budget]]
    return Choice(np.sort(best), scores, np.zeros(len(scores), dtype=np.int64), share)


def random(influence: np.ndarray, effort: np.ndarray, options: Options) -> Choice:
    """Uniform without replacement."""
    scores, share = _combined(influence, effort, options)
    rows = np.random.default_rng(options.seed).choice(len(scores), options.budget, replace=False)
    return Choice(np.sort(rows), scores, np.zeros(len(scores), dtype=np.int64), share)


METHODS: dict[str, Callable[[np.ndarray, np.ndarray, Options], Choice]] = {
    "dealrec": dealrec,
    "greedy": greedy,
    "random": random,
}


def _combined(influence: np.ndarray, effort: np.ndarray, options: Options) -> tuple[np.ndarray, float]:
    return combine(influence, effort, effort_weight=options.effort_weight, normalisation=options.normalisation)


def _pruned(scores: np.ndarray, options: Options) -> np.ndarray:
    """Rows left after the top `hard_prune` share by score is dropped (released code, not in the paper); never fewer than the budget."""
    kept = max(options.budget, len(scores) - int(len(scores) * options.hard_prune))
    return np.sort(np.argsort(scores, kind="stable")[:kept])
