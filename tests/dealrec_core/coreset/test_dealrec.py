import numpy as np

from dealrec_core.coreset import dealrec
from dealrec_core.coreset.base import Options, Pool


def test_pruning_drops_the_highest_and_of_equals_the_first():
    assert dealrec.pruned(np.array([3.0, 1.0, 3.0, 2.0]), Options(budget=1, hard_prune=0.25)).tolist() == [1, 2, 3]


def test_pruning_never_leaves_fewer_than_the_budget():
    assert dealrec.pruned(np.arange(4.0), Options(budget=3, hard_prune=0.9)).tolist() == [0, 1, 2]


def test_the_smallest_group_is_served_first():
    # sizes 1 and 9, budget 4: floor(4 / 2) = 2 but the small group has 1, so the large one gives 3
    scores = np.array([0.0] * 9 + [1.0])
    choice = dealrec.stratified(scores, Options(budget=4, groups=2))
    assert np.bincount(choice.groups[choice.rows]).tolist() == [3, 1]
    assert 9 in choice.rows


def test_by_default_the_raw_scores_are_added_as_the_paper_prints_it():
    # 1 + 0.3 · 10, 2 + 0.3 · 30 and 1.5 + 0.3 · 0; the highest is not dropped
    choice = dealrec.choose(Pool(np.array([1.0, 2.0, 1.5]), np.array([10.0, 30.0, 0.0])), Options(budget=3))
    assert choice.scores.tolist() == [4.0, 11.0, 1.5]
    assert choice.rows.tolist() == [0, 1, 2]
