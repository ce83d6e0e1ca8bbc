import math

import polars as pl
import pytest

from dealrec_core.recommenders import baselines


def log(*pairs: str) -> pl.DataFrame:
    return pl.DataFrame({"user_id": [pair[0] for pair in pairs], "item_id": [pair[1] for pair in pairs]})


LOG = log("1a", "1b", "2a", "2b", "3b", "3c", "4d")


def test_popularity_orders_by_count_and_ties_by_id():
    assert baselines.popularity(LOG).recommend([[], ["b"]], 3) == [["b", "a", "c"]] * 2


def test_neighbours_are_scored_by_the_cosine_of_their_users():
    knn = baselines.item_knn(LOG)
    place = {item: row for row, item in enumerate(knn.item_ids)}
    assert knn.similarity[place["a"], place["b"]] == pytest.approx(2 / math.sqrt(2 * 3))  # users 1, 2 of 2 and 3
    assert knn.similarity[place["b"], place["c"]] == pytest.approx(1 / math.sqrt(3 * 1))
    assert knn.similarity[place["a"], place["a"]] == 0


def test_the_nearest_item_comes_first_and_popularity_fills_up():
    assert baselines.item_knn(LOG).recommend([["a"], ["c"]], 4) == [["b", "a", "c", "d"], ["b", "a", "c", "d"]]


def test_unknown_items_are_skipped_and_an_empty_history_gets_what_is_popular():
    assert baselines.item_knn(LOG).recommend([["?"], []], 2) == [["b", "a"], ["b", "a"]]


def test_only_the_nearest_neighbours_are_kept():
    kept = baselines.item_knn(LOG, neighbours=1).similarity
    assert kept.getnnz(axis=1).max() == 1


def test_blocks_of_a_few_numbers_give_the_neighbours_and_lists_of_one_block(monkeypatch):
    histories = [["a"], ["c", "d"], ["?"], ["b", "a"]]
    whole = baselines.item_knn(LOG)
    lists = whole.recommend(histories, 3)
    monkeypatch.setattr(baselines, "CELLS", 8)  # two rows of four items
    in_blocks = baselines.item_knn(LOG)
    assert (in_blocks.similarity != whole.similarity).nnz == 0
    assert in_blocks.recommend(histories, 3) == lists
