import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dealrec_core.errors import DataError
from dealrec_core.evaluation.comparison import difference, holm, interval

TOLD = {"resamples": 2000, "seed": 0}


def test_a_constant_gain_has_an_interval_without_width():
    found = difference(np.full((3, 4), 0.7), np.full((3, 4), 0.5), **TOLD)
    assert (found.mean, found.low, found.high) == pytest.approx((0.2, 0.2, 0.2))
    assert found.p == 1 / 2000  # no resample is on the other side
    assert found.above == 1.0


def test_equal_values_show_no_difference():
    found = difference(np.ones((2, 5)), np.ones((2, 5)), **TOLD)
    assert (found.mean, found.p) == (0.0, 1.0)


def test_users_alone_give_the_normal_interval():
    gaps = np.random.default_rng(1).normal(0.1, 1.0, size=(1, 2000))
    found = difference(gaps, np.zeros_like(gaps), **TOLD)
    half = 1.96 * gaps.std() / np.sqrt(2000)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.08)


def test_seeds_that_disagree_widen_the_interval():
    users = np.zeros((2, 1000))
    agree, differ = np.full((2, 1000), 0.1), np.array([[0.3] * 1000, [-0.1] * 1000])
    assert difference(agree, users, **TOLD).low > 0
    apart = difference(differ, users, **TOLD)
    # with two seeds a quarter of the resamples takes the bad one twice
    assert apart.mean == pytest.approx(0.1)
    assert apart.low == pytest.approx(-0.1)
    assert apart.p == pytest.approx(0.5, abs=0.06)


def test_one_seed_is_users_alone_and_draws_what_a_loop_would_draw():
    gaps = np.random.default_rng(1).normal(0.1, 1.0, size=1501)
    found = difference(gaps, np.zeros(1501), threshold=0.1, **TOLD)
    random = np.random.default_rng(0)
    means = np.array([gaps[random.integers(0, 1501, 1501)].mean() for _ in range(2000)])
    assert (found.mean, found.above) == (gaps.mean(), (means > 0.1).mean())
    assert [found.low, found.high] == np.quantile(means, [0.025, 0.975]).tolist()
    assert found == difference(gaps[None], np.zeros((1, 1501)), threshold=0.1, **TOLD)


def test_the_interval_has_the_width_that_theory_gives():
    found = difference(np.tile([0.0, 1.0], 200), np.zeros(400), resamples=4000, seed=0)
    error = 0.5 / np.sqrt(400)  # standard deviation 0.5
    assert found.mean == 0.5
    assert found.low == pytest.approx(0.5 - 1.96 * error, abs=0.005)
    assert found.high == pytest.approx(0.5 + 1.96 * error, abs=0.005)


def test_a_confidence_cuts_equal_tails():
    found = interval(50.0, np.arange(101.0), confidence=0.8, threshold=89.5)
    assert (found.low, found.high) == (10.0, 90.0)
    assert found.above == 11 / 101


def test_pairs_must_match():
    with pytest.raises(DataError, match=r"\(1, 2\) and \(1, 3\) cannot be compared in pairs"):
        difference(np.zeros((1, 2)), np.zeros((1, 3)), **TOLD)


def test_holm_by_hand():
    # sorted .01 .02 .04: 3·.01 = .03, 2·.02 = .04, 1·.04 = .04
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])


@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_never_lowers_a_p_value_and_keeps_the_order(p_values):
    adjusted = holm(p_values)
    assert all(after >= before for before, after in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()
