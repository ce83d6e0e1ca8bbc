import numpy as np

from dealrec_core.coreset import tf_dcon
from dealrec_core.coreset.base import Options, Pool


def test_each_cluster_gives_its_nearest_samples_in_proportion():
    # clusters of 4 and 2 samples with centres 0 and 100; budget 3 gives 2 and 1
    user = np.array([[-2.0], [-0.5], [0.5], [2.0], [99.0], [101.0]])
    pool = Pool(np.zeros(6), np.zeros(6), {"user": user, "text": np.zeros((6, 1))})
    assert tf_dcon.choose(pool, Options(budget=3, groups=2)).rows.tolist() == [1, 2, 4]
