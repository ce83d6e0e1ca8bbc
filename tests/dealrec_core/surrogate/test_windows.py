"""Windows hold every transition of the log exactly once, however the samples overlap."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from dealrec_core.samples.sequences import Sequences
from dealrec_core.surrogate.windows import alone, around, windows


def samples_of(*pairs: tuple[list[int], int]) -> Sequences:
    histories = [history for history, _ in pairs]
    offsets = np.concatenate([[0], np.cumsum([len(history) for history in histories])])
    return Sequences(np.concatenate(histories).astype(np.int64), offsets, np.array([target for _, target in pairs]))


def rows(found: list[np.ndarray]) -> list[list[int]]:
    return sorted(row.tolist() for part in found for row in part)


def test_overlapping_samples_of_one_user_become_one_window() -> None:
    found = windows(samples_of(([1], 2), ([1, 2, 3], 4), ([1, 2], 3)), length=10)
    assert rows(found) == [[1, 2, 3, 4]]


def test_one_sample_is_its_history_with_its_target() -> None:
    assert rows(windows(samples_of(([5, 6, 7], 8)), length=10)) == [[5, 6, 7, 8]]


def test_long_chains_are_cut_so_that_neighbours_share_one_item() -> None:
    assert rows(windows(samples_of(([0, 1, 2, 3, 4], 5)), length=2)) == [[0, 1, 2], [2, 3, 4], [4, 5]]


def test_histories_cut_to_the_same_length_are_joined() -> None:
    found = windows(samples_of(([1], 2), ([1, 2], 3), ([2, 3], 4), ([3, 4], 5)), length=10)
    assert rows(found) == [[1, 2, 3, 4, 5]]


def test_a_user_who_repeats_one_item_is_not_lost() -> None:
    found = windows(samples_of(([3, 3], 3), ([3, 3], 3)), length=10)
    assert rows(found) == [[3, 3, 3], [3, 3, 3]]


def test_alone_each_sample_is_a_window_of_its_latest_items() -> None:
    found = alone(samples_of(([1], 2), ([1, 2, 3], 4), ([1, 2], 3), ([7, 8, 9], 1)), length=2)
    assert rows(found) == [[1, 2], [1, 2, 3], [2, 3, 4], [8, 9, 1]]


def test_around_new_samples_stand_the_windows_that_predict_them_and_as_many_others() -> None:
    cut = [[0, 1, 2], [2, 3, 4], [4, 5], [6, 7, 8], [8, 9]]
    logs = [0, 1, 2, 3, 4, 5], [6, 7, 8, 9]
    samples = samples_of(*((log[:place], log[place]) for log in logs for place in range(1, len(log))))
    assert rows(windows(samples, length=2)) == cut
    drawn = set()
    for seed in range(20):
        found = rows(around(samples, np.array([2, 7]), length=2, seed=seed))
        assert [2, 3, 4] in found
        assert [8, 9] in found
        assert len(found) == 4
        assert all(window in cut for window in found)
        drawn |= {tuple(window) for window in found}
    assert len(drawn) == 5  # each of the others is drawn by some seed
    assert around(samples, np.array([], dtype=int), length=2, seed=0) == []
    assert rows(around(samples, np.arange(8), length=2, seed=0)) == cut


@pytest.mark.parametrize("seed", range(5))
def test_every_transition_of_a_sliding_log_stands_exactly_once(seed: int) -> None:
    random = np.random.default_rng(seed)
    pairs, expected = [], Counter()
    for _ in range(40):
        log = random.integers(0, 30, random.integers(2, 25)).tolist()
        expected.update(pairwise(log))
        pairs += [(log[max(0, place - 6) : place], log[place]) for place in range(1, len(log))]
    random.shuffle(pairs)
    found = windows(samples_of(*pairs), length=4)
    assert Counter(pair for row in rows(found) for pair in pairwise(row)) == expected
    assert all(2 <= part.shape[1] <= 5 for part in found)
