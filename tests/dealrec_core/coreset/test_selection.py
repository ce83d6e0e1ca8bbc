import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from dealrec_core.coreset import select
from dealrec_core.errors import DataError
from dealrec_core.settings.coreset import CoresetConfig


def scores(influence: list[float], effort: list[float] | None = None) -> pl.DataFrame:
    ids = [f"s{place:04d}" for place in range(len(influence))]
    return pl.DataFrame({"sample_id": ids, "influence": influence, "effort": effort or [0.0] * len(influence)})


def chosen(frame: pl.DataFrame, seed: int = 0, **settings) -> list[str]:
    return select(frame, CoresetConfig(**settings), seed=seed).frame["sample_id"].to_list()


MANY = scores(list(np.random.default_rng(0).normal(size=1000)))


def test_the_share_is_taken_exactly():
    assert len(chosen(MANY)) == 20
    assert len(chosen(MANY, count=123, groups=7)) == 123


def test_greedy_takes_the_highest_scores():
    assert chosen(scores([1.0, 4.0, 3.0, 2.0]), method="greedy", count=2) == ["s0001", "s0002"]


def test_effort_decides_as_much_as_its_weight():
    frame = scores([1.0, 2.0], [9.0, 1.0])
    assert chosen(frame, method="greedy", count=1, effort_weight=0.5) == ["s0001"]
    assert chosen(frame, method="greedy", count=1, effort_weight=2.0) == ["s0000"]


def test_groups_are_covered_where_greedy_would_take_one():
    frame = scores([*[0.0] * 50, *[10.0] * 50])
    found = select(frame, CoresetConfig(count=10, groups=2, normalisation="none"), seed=0)
    assert found.frame.group_by("group").len().sort("group")["len"].to_list() == [5, 5]


def test_hard_pruning_drops_the_top_as_the_released_code_does():
    frame = scores([float(value) for value in range(10)])
    assert "s0009" not in chosen(frame, count=5, hard_prune=0.1)
    assert len(chosen(frame, count=10, hard_prune=0.5)) == 10  # the budget comes first


def test_the_order_of_rows_makes_no_difference_and_the_seed_does():
    shuffled = MANY.sample(fraction=1, shuffle=True, seed=5)
    assert chosen(shuffled) == chosen(MANY) != chosen(MANY, seed=1)


def test_more_than_there_is_means_all():
    assert len(chosen(scores([1.0, 2.0]), count=5)) == 2


def test_equal_scores_and_a_single_group_are_a_random_choice():
    assert len(chosen(scores([1.0] * 100), count=10)) == 10
    assert len(chosen(MANY, count=10, groups=1)) == 10


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None])
def test_a_score_that_is_not_finite_names_its_sample(bad):
    with pytest.raises(DataError, match="influence of sample 's0001' is"):
        chosen(scores([1.0, bad, 2.0]))


def test_no_sample_is_an_error():
    with pytest.raises(DataError, match="no scored sample"):
        chosen(scores([]).cast({"influence": pl.Float64, "effort": pl.Float64}))


def test_an_unknown_method_is_refused():
    with pytest.raises(ValidationError, match="method"):
        CoresetConfig(method="magic")


HASHES = MANY.with_columns(pl.col("influence").hash(1).cast(pl.String).str.zfill(20).alias("sample_id"))


def test_ids_that_are_hashes_are_ordered_alike_however_the_rows_lie():
    frame = HASHES.with_columns(pl.col("sample_id").str.head(20) + "abcdef")
    shuffled = frame.sample(fraction=1, shuffle=True, seed=5)
    assert chosen(shuffled) == chosen(frame) == sorted(chosen(frame))


def test_ids_that_agree_in_sixteen_digits_are_told_apart_by_the_rest():
    frame = pl.DataFrame({"sample_id": ["0" * 16 + "b", "0" * 16 + "a"], "influence": [1.0, 1.0], "effort": [0.0, 0.0]})
    assert chosen(frame, count=1, method="greedy") == ["0" * 16 + "a"]


def test_a_sample_scored_twice_is_an_error():
    with pytest.raises(DataError, match="'s0000' is scored more than once"):
        chosen(pl.concat([scores([1.0]), scores([2.0])]))


def test_a_study_can_use_any_method_with_its_columns():
    frame = scores([0.0, 0.0, 0.0]).with_columns(el2n=pl.Series([0.1, 0.3, 0.2]))
    found = select(frame, CoresetConfig(count=1), seed=0, by="el2n")
    assert found.frame.select("sample_id", "reason").row(0) == ("s0001", "el2n: 1 of 3")


def test_a_column_may_hold_arrays():
    vectors = pl.Series([[1.0, 0.0], [0.0, 1.0]], dtype=pl.Array(pl.Float64, 2))
    frame = scores([0.0, 0.0]).with_columns(adam_gradient=vectors)
    reference = {"gradient": np.array([[0.0, 2.0]])}
    found = select(frame, CoresetConfig(count=1), seed=0, by="less", reference=reference)
    assert found.frame["sample_id"].to_list() == ["s0001"]


def test_a_method_whose_column_is_missing_says_which():
    with pytest.raises(DataError, match="needs the column 'el2n'"):
        select(MANY, CoresetConfig(), seed=0, by="ccs")


def test_only_the_columns_of_the_method_must_be_finite():
    frame = scores([1.0, 2.0]).with_columns(el2n=pl.Series([0.1, float("nan")]))
    assert chosen(frame, count=1, method="greedy") == ["s0001"]
    with pytest.raises(DataError, match="el2n of sample 's0001' is nan"):
        select(frame, CoresetConfig(count=1), seed=0, by="el2n")


TOKENS = MANY.with_columns(tokens=pl.Series(np.random.default_rng(1).integers(5, 50, 1000)))


@pytest.mark.parametrize("method", ["dealrec", "greedy", "random", "dealrec-released"])
def test_a_token_budget_takes_as_many_samples_as_fit(method):
    found = select(TOKENS, CoresetConfig(method=method), seed=0, token_budget=700)
    spent = TOKENS.filter(pl.col("sample_id").is_in(found.frame["sample_id"].implode()))["tokens"].sum()
    assert found.report["tokens of an epoch"] == spent <= 700
    one_more = select(TOKENS, CoresetConfig(method=method, count=len(found.frame) + 1), seed=0)
    assert one_more.report["tokens of an epoch"] > 700


def test_a_token_budget_beyond_the_pool_takes_all_and_one_below_every_sample_is_an_error():
    assert len(select(TOKENS, CoresetConfig(), seed=0, token_budget=10**6).frame) == 1000
    with pytest.raises(DataError, match="no sample fits into 3 tokens, the shortest has 5"):
        select(TOKENS, CoresetConfig(), seed=0, token_budget=3)


def test_the_shares_of_variance_of_both_terms_add_up_to_one():
    report = select(scores([1.0, 2.0, 3.0], [3.0, 1.0, 2.0]), CoresetConfig(normalisation="rank"), seed=0).report
    # ranks (0, .5, 1) and .3 · (1, 0, .5): I = (.3, .5, 1.15), weighted effort (.3, 0, .15)
    # deviations (-.35, -.15, .5) and (.15, -.15, 0): products sum to -.03, squares of I to .395
    assert report["score variance due to effort"] == round(-0.03 / 0.395, 4)
    assert report["score variance due to influence"] == round(1 + 0.03 / 0.395, 4)


def test_equal_scores_have_no_variance_to_share():
    report = select(scores([1.0] * 5), CoresetConfig(), seed=0).report
    assert report["score variance due to influence"] == report["score variance due to effort"] == 0


def test_an_influence_weight_of_zero_leaves_influence_out():
    frame = scores([5.0, 1.0], [0.1, 0.2])
    assert chosen(frame, method="greedy", count=1, influence_weight=0.0) == ["s0001"]
