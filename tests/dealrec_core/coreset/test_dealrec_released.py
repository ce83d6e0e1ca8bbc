import numpy as np

from dealrec_core.coreset import dealrec_released
from dealrec_core.coreset.base import Options, Pool


def test_groups_are_closed_on_the_right():
    # edges at 1, 2, 3, 4
    scores = np.array([0.0, 1.0, 1.5, 2.0, 4.0], dtype=np.float32)
    assert dealrec_released.groups(scores, 4).tolist() == [0, 0, 1, 1, 3]


def test_equal_scores_are_all_in_the_first_group():
    assert dealrec_released.groups(np.full(3, 2, dtype=np.float32), 4).tolist() == [0, 0, 0]


def naive_groups(scores: np.ndarray, count: int) -> list[int]:
    """The loops of prune.py, in float32."""
    low, high = scores.min(), scores.max()
    interval = np.float32((high - low) / np.float32(count))
    edges = [min(np.float32(low + np.float32(interval * np.float32(step))), high) for step in range(1, count + 1)]
    return [next((group for group, edge in enumerate(edges) if score <= edge), count) for score in scores]


def rounded_below() -> np.ndarray:
    """Scores whose last float32 edge is below their maximum."""
    for seed in range(1000):
        scores = np.random.default_rng(seed).random(40).astype(np.float32)
        if max(naive_groups(scores, 7)) == 7:
            return scores
    raise AssertionError("no such scores")


def test_groups_equal_the_released_loops():
    for seed in range(20):
        scores = np.random.default_rng(seed).random(50).astype(np.float32)
        assert dealrec_released.groups(scores, 7).tolist() == naive_groups(scores, 7)


def test_a_largest_score_above_the_last_rounded_edge_is_lost_as_in_the_released_code():
    scores = rounded_below().astype(np.float64)
    pool = Pool(scores, np.zeros(len(scores)))
    settings = {"groups": 7, "effort_weight": 0.0, "normalisation": "none", "hard_prune": 0.0}
    rows = dealrec_released.choose(pool, Options(budget=len(scores) - 1, **settings)).rows
    assert scores.argmax() not in rows
    assert len(dealrec_released.choose(pool, Options(budget=len(scores), **settings)).rows) == len(scores)


def test_by_default_scores_are_min_maxed_and_the_top_tenth_is_dropped():
    pool = Pool(np.arange(10.0), np.zeros(10))
    choice = dealrec_released.choose(pool, Options(budget=9, groups=3))
    assert choice.rows.tolist() == list(range(9))
    assert choice.scores.tolist() == [score / 9 for score in range(10)]
