import polars as pl

from dealrec_core.evaluation.slices import RARE, slices

CASES = pl.DataFrame({"history": [["a"] * RARE, ["a"] * (RARE - 1)], "targets": [["a", "cold"], ["a"]]})


def test_short_histories_are_new_users_and_one_cold_target_is_enough():
    found = slices(CASES, {"a": RARE, "cold": RARE - 1})
    assert found["new users"].tolist() == [False, True]
    assert found["users of cold items"].tolist() == [True, False]


def test_an_item_without_interactions_is_cold():
    assert slices(CASES, {})["users of cold items"].tolist() == [True, True]
