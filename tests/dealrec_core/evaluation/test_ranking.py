import math

import polars as pl

from dealrec_core.evaluation import ranking
from dealrec_core.settings.evaluation import EvaluationConfig


class Fixed:
    """Recommends the same list to everybody."""

    name = "fixed"

    def recommend(self, histories, k):
        return [["a", "b", "c", "d"][:k] for _ in histories]


CASES = pl.DataFrame({"user_id": ["u", "v"], "history": [["a"], []], "targets": [["b"], ["d", "x"]]})


def test_metrics_are_taken_per_user():
    found = ranking.evaluate(Fixed(), CASES, EvaluationConfig(k=2))
    assert found["user_id"].to_list() == ["u", "v"]
    assert found["recall"].to_list() == [1.0, 0.0]
    assert found["ndcg"][0] == 1 / math.log2(3)  # hit at place 2, one target
    assert found["mrr"].to_list() == [0.5, 0.0]


def test_seen_items_are_dropped_before_the_list_is_cut_when_the_settings_say_so():
    found = ranking.evaluate(Fixed(), CASES, EvaluationConfig(k=1, mask_seen=True))
    assert found["recall"].to_list() == [1.0, 0.0]  # 'a' is dropped for u, so 'b' comes first


def test_the_summary_is_the_mean_over_users_best_first():
    one = ranking.evaluate(Fixed(), CASES, EvaluationConfig(k=2))
    worse = one.with_columns(pl.lit("worse").alias("recommender"), recall=pl.lit(0.1))
    found = ranking.summary(pl.concat([worse, one]))
    assert found["recommender"].to_list() == ["fixed", "worse"]
    assert found["recall"].to_list() == [0.5, 0.1]
    assert found["users"].to_list() == [2, 2]


def test_cold_targets_are_judged_alone():
    lists = [["a", "b"], ["a", "d"]]
    counts = {"a": 9, "b": 2, "d": 5}
    found = ranking.beside(lists, CASES, counts, item_count=8, config=EvaluationConfig(k=2, cold_below=5))
    # cold: b for u, found; x for v (never seen), missed; d has five interactions and is not cold
    assert (found.cold_users, found.cold_recall) == (2, 0.5)
    assert found.coverage == 3 / 8
    # shown: (9 + 2) / 2 and (9 + 5) / 2, mean 6.25; taken: 2 and (5 + 0) / 2, mean 2.25
    assert found.popularity_lift == 6.25 / 2.25


def test_without_a_cold_target_there_is_no_cold_recall():
    counts = dict.fromkeys("abcdx", 9)
    found = ranking.beside([["a"], ["a"]], CASES, counts, item_count=8, config=EvaluationConfig(k=2))
    assert found.cold_users == 0
    assert math.isnan(found.cold_recall)
