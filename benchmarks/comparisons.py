"""How often does a comparison of two equal methods say that one is better? python benchmarks/comparisons.py

Null data have values y[s, u] = seed[s] + user[u] + rest[s, u] of two methods with common users. Seeds vary by `ratio` times what
users vary the mean by. Compared are the study's Student's t (dealrec_core/study/gains.py) and the percentile bootstrap over seeds
and users that a study used before, and which pairs equal numbers of seeds.
"""

import json
from pathlib import Path

import numpy as np

from dealrec_core.evaluation.comparison import difference
from dealrec_core.study.gains import gain

RESULT = Path("benchmarks/results/comparisons.json")
RATIOS = (0.25, 1.0, 4.0, 20.0)
SEEDS = ((5, 5), (5, 10))


def false_verdicts(
    ratio: float, *, seeds: tuple[int, int], users: int, data_sets: int, seed: int, resamples: int = 0
) -> dict[str, float]:
    """Shares of null data sets on which the interval of 95% excludes zero, with the variance between seeds `ratio` times the users'."""
    random = np.random.default_rng(seed)
    by_t = by_bootstrap = 0
    for number in range(data_sets):
        first, second = _null(random, ratio, seeds=seeds, users=users)
        by_t += gain(first, second).p < 0.05
        if resamples:
            paired = min(seeds)
            found = difference(first[:paired], second[:paired], resamples=resamples, seed=number)
            by_bootstrap += not found.low <= 0 <= found.high
    return {"t": by_t / data_sets, **({"bootstrap": by_bootstrap / data_sets} if resamples else {})}


def _null(
    random: np.random.Generator, ratio: float, *, seeds: tuple[int, int], users: int
) -> tuple[np.ndarray, np.ndarray]:
    """Two methods of equal means: hits are rare, so what a user adds has a heavy tail (exponential), and so has the rest."""
    common = random.exponential(size=users)

    def method(count: int) -> np.ndarray:
        own = random.exponential(size=users) - 1
        between = np.sqrt(ratio / users) * random.standard_normal((count, 1))
        return np.asarray(common + own + between + random.exponential(size=(count, users)) - 1)

    return method(seeds[0]), method(seeds[1])


def main() -> None:
    """Writes the shares for all ratios and numbers of seeds."""
    found = {
        f"{seeds[0]} against {seeds[1]} seeds, ratio {ratio:g}": false_verdicts(
            ratio, seeds=seeds, users=200, data_sets=1000, seed=1, resamples=200
        )
        for seeds in SEEDS
        for ratio in RATIOS
    }
    RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
