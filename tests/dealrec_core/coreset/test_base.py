import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dealrec_core.coreset.base import Options, Pool, highest, unit
from dealrec_core.coreset.methods import METHODS, method
from dealrec_core.errors import DataError, SettingsError


def test_of_equal_scores_the_first_are_the_highest():
    assert highest(np.array([1.0, 5.0, 1.0, 1.0]), 3).tolist() == [0, 1, 2]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(0, 40))
def test_the_highest_are_those_of_a_stable_sort(values, budget):
    scores = np.array(values, dtype=float)
    naive = sorted(sorted(range(len(values)), key=lambda row: (-values[row], row))[:budget])
    assert highest(scores, budget).tolist() == naive


def test_rows_get_length_one_and_zero_stays_zero():
    assert unit(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist() == [[0.6, 0.8], [0.0, 0.0]]


def test_a_missing_feature_is_named_with_those_given():
    with pytest.raises(DataError, match=r"needs the column 'el2n' \(given: grand\)"):
        Pool(np.zeros(1), np.zeros(1), {"grand": np.zeros(1)}).feature("el2n")


def test_an_unknown_method_is_refused_with_those_there_are():
    with pytest.raises(SettingsError, match="no selection method 'magic'; there are dealrec, "):
        method("magic")


def pool(size: int) -> Pool:
    random = np.random.default_rng(size)
    wide = ("user", "text", "gradient", "adam_gradient", "hidden", "vector")
    features = {name: random.normal(size=(size, 6)) for name in wide}
    features |= {name: random.random(size) for name in ("el2n", "grand", "popularity", "recency")}
    features |= {"history_length": random.integers(1, 20, size), "category": random.integers(0, 4, size)}
    features |= {"item": random.integers(0, 9, size)}
    reference = {name: random.normal(size=(7, 6)) for name in wide} | {"item": random.integers(0, 9, 7)}
    reference |= {"category": random.integers(0, 4, 7)}
    return Pool(random.normal(size=size), random.random(size), features, reference)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("size", "budget"), [(60, 1), (60, 13), (60, 60), (1, 1)])
def test_every_method_spends_its_budget_exactly_on_distinct_rows_and_repeats_itself(name, size, budget):
    options = Options(budget=budget, groups=8, seed=3)
    choice = METHODS[name](pool(size), options)
    assert len(set(choice.rows.tolist())) == len(choice.rows) == budget
    assert choice.rows.tolist() == sorted(choice.rows.tolist())
    assert 0 <= choice.rows[0] <= choice.rows[-1] < size
    assert len(choice.scores) == len(choice.groups) == size
    assert METHODS[name](pool(size), options).rows.tolist() == choice.rows.tolist()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_carries_samples_that_are_all_alike(name):
    alike = pool(20)
    features = {key: np.ones_like(values) for key, values in alike.features.items()}
    choice = METHODS[name](
        Pool(np.ones(20), np.ones(20), features, {key: np.ones_like(found) for key, found in alike.reference.items()}),
        Options(budget=5, groups=8, hard_prune=0.1),
    )
    assert len(set(choice.rows.tolist())) == 5
