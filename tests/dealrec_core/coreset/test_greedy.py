import numpy as np

from dealrec_core.coreset import greedy
from dealrec_core.coreset.base import Options, Pool


def test_the_highest_scores_left_by_pruning_are_chosen():
    pool = Pool(np.array([5.0, 4.0, 3.0, 2.0]), np.zeros(4))
    settings = {"budget": 2, "normalisation": "none"}
    assert greedy.choose(pool, Options(**settings)).rows.tolist() == [0, 1]
    assert greedy.choose(pool, Options(**settings, hard_prune=0.25)).rows.tolist() == [1, 2]
