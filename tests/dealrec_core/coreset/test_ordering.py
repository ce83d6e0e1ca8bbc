import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dealrec_core.coreset import ordering

SOME_ALIKE = st.lists(
    st.sampled_from([0, 1, 2, 3, 2**40, 2**40 + 1, 2**63, 2**64 - 2, 2**64 - 1]), min_size=1, max_size=40
)


@given(SOME_ALIKE)
def test_keys_that_differ_in_low_bits_alone_or_not_at_all_come_in_the_order_of_a_stable_sort(keys):
    numbers = np.array(keys, dtype=np.uint64)
    assert ordering.argsort(numbers).tolist() == np.argsort(numbers, kind="stable").tolist()


def test_many_keys_are_sorted_as_by_numpy():
    keys = np.random.default_rng(0).integers(2**64, size=10_000, dtype=np.uint64) >> np.uint64(40)  # many ties
    assert (ordering.argsort(keys) == np.argsort(keys, kind="stable")).all()


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=40))
def test_floats_keep_their_order_and_zero_is_zero_whatever_its_sign(values):
    floats = np.array([*values, 0.0, -0.0])
    assert ordering.argsort(ordering.keys(floats)).tolist() == np.argsort(floats, kind="stable").tolist()
