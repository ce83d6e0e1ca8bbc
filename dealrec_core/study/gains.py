"""Is a method better than the reference on the same users, over all the seeds that each of them has? And what could be seen at all?

The values of a method are y[s, u] = mean + seed[s] + user[u] + rest[s, u]. The gain is the difference of two such means over
the same users, so the users' common part falls out, and its variance is

    seed² / S + seed'² / S' + user² / U + (rest² / S + rest'² / S') / U

where user² is the variance of what a method gains on a user. All parts are estimated by their mean squares. The quantile is Student's,
with the degrees of freedom of Satterthwaite (1946) in Welch's (1947) form: few seeds give few degrees wherever seeds are what varies.
A bootstrap of five seeds has none of that and is too narrow (`benchmarks/comparisons.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from dealrec_core.errors import DataError

POWER = 0.8
MOST = 1_000_000
"""Seeds beyond which none are counted."""


@dataclass(frozen=True)
class Gain:
    """A gain with its interval, and what its variance is made of."""

    mean: float
    low: float
    high: float
    p: float
    """Two-sided."""
    error: float
    """Standard error."""
    parts: "Parts"


@dataclass(frozen=True)
class Parts:
    """Variances of a comparison, and the numbers of seeds and users at hand."""

    seed: tuple[float, float]
    """Between seeds of the method and of the reference, without what users add."""
    rest: tuple[float, float]
    """Variance of one seed on one user."""
    user: float
    """Variance of a method's gain between users, for an endless number of seeds."""
    seeds: tuple[int, int]
    users: int

    def error(self, *, seeds: tuple[int, int] | None = None, users: float | None = None) -> tuple[float, float]:
        """The standard error and its degrees of freedom, with other numbers of seeds and users where they are given."""
        count, crowd = seeds or self.seeds, users or self.users
        pairs = list(zip(self.seed, self.rest, count, strict=True))
        by_user = (self.user + sum(rest / size for _, rest, size in pairs)) / crowd
        between = [(seed + rest / crowd) / size for seed, rest, size in pairs]
        variance = by_user + sum(seed / size for seed, _, size in pairs)
        shares = [part**2 / (size - 1) for part, size in zip(between, count, strict=True) if size > 1]
        spread = by_user**2 / (crowd - 1) + sum(shares)
        return variance**0.5, variance**2 / spread if spread > 0 else float("inf")

    def smallest(self, *, confidence: float, seeds: tuple[int, int] | None = None, users: float | None = None) -> float:
        """The smallest true gain that is detected with a power of 80%."""
        error, freedom = self.error(seeds=seeds, users=users)
        return float((student.ppf((1 + confidence) / 2, freedom) + student.ppf(POWER, freedom)) * error)

    def seeds_for(self, gain: float, *, confidence: float) -> int | None:
        """The least seeds, of method and reference each, that find this gain on the users at hand; None where none suffice."""
        return _least(lambda size: self.smallest(confidence=confidence, seeds=(size, size)) <= gain, first=2)

    def users_for(self, gain: float, *, confidence: float) -> int | None:
        """The least users that find this gain with the seeds at hand; None where none suffice."""
        return _least(lambda size: self.smallest(confidence=confidence, users=size) <= gain, first=2)


def gain(first: np.ndarray, second: np.ndarray, *, confidence: float = 0.95) -> Gain:
    """The mean of `first` − `second`, values (S, U) and (S', U) of the same users in the same order, with its interval.

    With one seed there is no variance between seeds: the interval then holds for that seed alone.

    Raises:
        DataError: the users differ in number, or there are fewer than two of them.

    >>> found = gain(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 1.0], [1.0, 1.0]]))
    >>> found.mean, round(found.error, 6)  # method's means 1.5 and 3.5; gains of the users 1 and 2, seeds 1.5 ± 1 / sqrt(2)
    (1.5, 1.118034)
    """
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or first.shape[1] < 2:
        raise DataError(
            f"values of shapes {first.shape} and {second.shape} cannot be compared; both need the same users, at least two"
        )
    parts = _parts(first, second)
    error, freedom = parts.error()
    mean = float(first.mean() - second.mean())
    if error == 0:
        return Gain(mean, mean, mean, float(mean == 0), 0.0, parts)
    reach = float(student.ppf((1 + confidence) / 2, freedom)) * error
    p = float(2 * student.sf(abs(mean) / error, freedom))
    return Gain(mean, mean - reach, mean + reach, p, error, parts)


def _parts(first: np.ndarray, second: np.ndarray) -> Parts:
    """The variances, each by its mean squares; one that comes out negative is 0."""
    users = first.shape[1]
    seeds, rests = zip(*(_seeds(values) for values in (first, second)), strict=True)
    of_users = float((first.mean(0) - second.mean(0)).var(ddof=1))
    noise = sum(rest / len(values) for rest, values in zip(rests, (first, second), strict=True))
    return Parts(seeds, rests, max(0.0, of_users - noise), (len(first), len(second)), users)


def _seeds(values: np.ndarray) -> tuple[float, float]:
    """Variance between the seeds of values (S, U), and of what neither seed nor user explains; zeros with one seed."""
    seeds, users = values.shape
    if seeds == 1:
        return 0.0, 0.0
    rest = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    of_rest = float((rest**2).sum() / ((seeds - 1) * (users - 1)))
    return max(0.0, float(values.mean(1).var(ddof=1)) - of_rest / users), of_rest


def _least(suffices: Callable[[int], bool], *, first: int) -> int | None:
    """The least number from `first` that suffices, where all larger ones do too; None beyond MOST."""
    high = first
    while not suffices(high):
        high *= 2
        if high > MOST:
            return None
    low = max(first, high // 2)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle + 1, high)
    return low
