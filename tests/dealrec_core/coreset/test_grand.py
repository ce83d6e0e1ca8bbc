import numpy as np

from dealrec_core.coreset import grand
from dealrec_core.coreset.base import Options, Pool


def test_the_mean_norm_over_epochs_decides():
    norms = np.array([[1.0, 9.0], [6.0, 6.0], [0.0, 8.0]])  # means 5, 6, 4
    pool = Pool(np.zeros(3), np.zeros(3), {"grand": norms})
    assert grand.choose(pool, Options(budget=2)).rows.tolist() == [0, 1]
