import numpy as np

from dealrec_core.coreset import rds


def test_columns_take_their_best_free_row_in_turn():
    similarity = np.array([[0.9, 0.8], [0.7, 0.1], [0.2, 0.6], [0.1, 0.3]])
    # the first column takes row 0, the second wants 0, gets 2; the first then takes 1
    assert rds.round_robin(similarity, 2).tolist() == [0, 2]
    assert rds.round_robin(similarity, 3).tolist() == [0, 1, 2]


def test_more_than_there_is_means_all():
    assert rds.round_robin(np.array([[0.5], [0.1]]), 9).tolist() == [0, 1]
