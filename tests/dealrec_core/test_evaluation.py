import math

import polars as pl

from dealrec_core import evaluation
from dealrec_core.evaluation import EvaluateConfig


class Fixed:
    """Recommends the same list to everybody."""

    name = "fixed"

    def recommend(self, histories, k):
        return [["a", "b", "c", "d"][:k] for _ in histories]


CASES = pl.DataFrame({"user_id": ["u", "v"], "history": [["a"], []], "targets": [["b"], ["d", "x"]]})


def test_metrics_are_taken_per_user():
    found = evaluation.evaluate(Fixed(), CASES, EvaluateConfig(k=2))
    assert found["user_id"].to_list() == ["u", "v"]
    assert found["recall"].to_list() == [1.0, 0.0]
    assert found["ndcg"][0] == 1 / math.log2(3)  # hit at place 2, one target
    assert found["mrr"].to_list() == [0.5, 0.0]


def test_seen_items_are_dropped_before_the_list_is_cut_when_the_settings_say_so():
    found = evaluation.evaluate(Fixed(), CASES, EvaluateConfig(k=1, mask_seen=True))
    assert found["recall"].to_list() == [1.0, 0.0]  # 'a' is dropped for u, so 'b' comes first


def test_the_summary_is_the_mean_over_users_best_first():
    one = evaluation.evaluate(Fixed(), CASES, EvaluateConfig(k=2))
    worse = one.with_columns(pl.lit("worse").alias("recommender"), recall=pl.lit(0.1))
    found = evaluation.summary(pl.concat([worse, one]))
    assert found["recommender"].to_list() == ["fixed", "worse"]
    assert found["recall"].to_list() == [0.5, 0.1]
    assert found["users"].to_list() == [2, 2]
