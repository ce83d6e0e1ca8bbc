import numpy as np

from dealrec_core.coreset import targeted
from dealrec_core.coreset.base import Options, Pool


def drawn() -> np.random.Generator:
    return np.random.default_rng(0)


def test_largest_remainders_by_hand():
    # 3 · (.6, .2, .2) = 1.8, .6, .6: floors 1, 0, 0; the remainder .8 comes first, then one of the two equal ones
    taken = targeted.apportioned(np.array([0.6, 0.2, 0.2]), np.array([9, 9, 9]), budget=3, random=drawn())
    assert taken[0] == 2
    assert sorted(taken[1:]) == [0, 1]


def test_what_an_item_cannot_give_goes_to_the_others_by_their_shares():
    # 10 · (.7, .2, .1) = 7, 2, 1, but the first has 1: 9 · 2/3 and 9 · 1/3 are left for the others
    taken = targeted.apportioned(np.array([0.7, 0.2, 0.1]), np.array([1, 9, 9]), budget=10, random=drawn())
    assert taken.tolist() == [1, 6, 3]


def test_a_budget_beyond_the_samples_takes_them_all():
    assert targeted.apportioned(np.array([0.5, 0.5]), np.array([1, 2]), budget=9, random=drawn()).tolist() == [1, 2]


def test_quotas_follow_the_recent_targets():
    # 4 samples each of items 0 and 1; three of four recent targets are item 0: (3/4 + .1 · 1/2) to (1/4 + .1 · 1/2) = 8 to 3
    items, recent = np.repeat([0, 1], 400), np.array([0, 0, 0, 1])
    quota = targeted.quotas(items, recent, category=np.zeros(2, dtype=int), budget=11, random=drawn())
    assert quota.tolist() == [8, 3]


def test_the_share_of_an_item_that_the_pool_lacks_goes_to_its_category():
    # Items 0 and 1 are of one category, with 1 and 3 samples; item 2, which no sample has, is of the same category, and item 3 is of
    # another. Half of the recent targets are item 2, half item 3: item 2's half goes to 0 and 1 as 1 to 3.
    items, recent = np.repeat([0, 1, 3], [100, 300, 400]), np.array([2, 3])
    quota = targeted.quotas(items, recent, category=np.array([5, 5, 5, 6]), budget=80, random=drawn())
    # (.5 · 1/4 + .1 · 1/8) : (.5 · 3/4 + .1 · 3/8) : (.5 + .1 · 1/2) = .1375 : .4125 : .55
    assert quota.tolist() == [10, 30, 0, 40]


def test_where_the_pool_lacks_the_category_too_the_share_goes_to_all():
    items = np.repeat([0, 1], [100, 300])
    quota = targeted.quotas(items, np.array([2]), category=np.array([0, 1, 2]), budget=40, random=drawn())
    assert quota.tolist() == [10, 30, 0]


def test_the_first_of_each_item_are_chosen():
    items, quota = np.array([0, 1, 0, 1, 1]), np.array([1, 2])
    assert targeted.best_of_each(items, np.array([4, 2, 3, 1, 0]), quota).tolist() == [2, 3, 4]
    assert targeted.best_of_each(items, np.array([4, 2, 3, 1, 0]), np.array([0, 1])).tolist() == [4]


def test_the_coreset_has_the_recent_targets_and_the_seed_draws_inside_an_item():
    # shares (1/2 + .1 · 1/4) and (1/2 + .1 · 3/4): 10 samples are 4.77 and 5.23, so 5 and 5
    items = np.repeat([0, 1], [100, 300])
    features, aims = {"item": items, "category": items}, {"item": np.array([0, 1]), "category": np.array([0, 1])}
    pool = Pool(np.zeros(400), np.zeros(400), features, aims)
    draws = [targeted.choose(pool, Options(budget=10, seed=seed)) for seed in (0, 0, 1)]
    assert np.bincount(items[draws[0].rows]).tolist() == [5, 5]
    assert draws[0].rows.tolist() == draws[1].rows.tolist() != draws[2].rows.tolist()
    assert draws[0].scores[[0, 399]].tolist() == [5 / 100, 5 / 300]
    assert draws[0].groups.tolist() == items.tolist()
