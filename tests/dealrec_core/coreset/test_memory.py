import polars as pl

from dealrec_core.coreset.memory import remembered

CHOSEN = pl.DataFrame({"night": ["1", "1", "1", "2", "2"], "sample_id": ["a", "b", "c", "c", "d"]})
POOL = pl.DataFrame({"sample_id": ["d", "c", "b", "a", "x"], "item_id": ["D", "C", "B", "A", "X"]})


def items(nights: list[str], most: int, pool: pl.DataFrame = POOL) -> list[str]:
    return remembered(CHOSEN, pool, nights=nights, most=most)["item_id"].to_list()


def test_newest_nights_come_first_and_a_sample_counts_once():
    assert items(["2", "1"], 2) == ["C", "D"]
    assert items(["2", "1"], 3) == ["A", "C", "D"]
    assert items(["2", "1"], 9) == ["A", "B", "C", "D"]


def test_only_nights_that_are_named_and_samples_of_the_pool_are_learnt_again():
    assert items(["1"], 9) == ["A", "B", "C"]
    assert items(["2", "1"], 9, POOL.filter(pl.col("sample_id") != "c")) == ["A", "B", "D"]


def test_without_an_earlier_night_or_without_memory_nothing_is_learnt_again():
    assert items([], 9) == items(["2", "1"], 0) == []
