import numpy as np

from dealrec_core.coreset import gradsim_diverse


def test_a_copy_of_what_is_chosen_gives_way_to_something_else():
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    # row 0 first; then 0.7 · 0.9 - 0.3 · 1 = 0.33 for its copy against 0.7 · 0.5 - 0 = 0.35 for the other
    assert gradsim_diverse.marginal(vectors, np.array([0.9, 0.9, 0.5]), 2).tolist() == [0, 2]
    # with 0.4 the other is worth 0.28: the copy wins
    assert gradsim_diverse.marginal(vectors, np.array([0.9, 0.9, 0.4]), 2).tolist() == [0, 1]
