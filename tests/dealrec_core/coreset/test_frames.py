import pandas as pd
import polars as pl
import pytest

from dealrec_core.coreset import CoresetConfig, choose_rows
from dealrec_core.errors import DataError

FRAME = pl.DataFrame({"id": [30, 10, 20, 40], "gain": [4.0, 1.0, 3.0, 2.0], "score": ["own", "columns", "are", "kept"]})
TWO = CoresetConfig(method="random", count=2)


def test_the_choice_follows_the_key_and_not_the_order_of_rows():
    chosen = choose_rows(FRAME, TWO, key="id")
    again = choose_rows(FRAME[::-1], TWO, key="id")
    assert len(chosen) == 2
    assert chosen["id"].to_list() == again["id"].to_list()[::-1]
    assert chosen.columns == ["id", "gain", "score", "coreset_score", "coreset_group"]


def test_a_pandas_frame_and_rows_without_a_key_are_chosen_from():
    frame = pd.DataFrame({"gain": [1.0, 3.0, 2.0], "norm": [1.0, 3.0, 2.0]})
    chosen = choose_rows(frame, CoresetConfig(method="greedy", count=2), influence="gain", effort="norm")
    assert chosen["gain"].to_list() == [3.0, 2.0]


def test_a_column_that_the_method_lacks_is_named():
    with pytest.raises(DataError, match="method 'greedy' needs the column 'effort'; the frame has id, gain, score"):
        choose_rows(FRAME, CoresetConfig(method="greedy"), influence="gain")
    with pytest.raises(DataError, match="method 'el2n' needs the column 'el2n'"):
        choose_rows(FRAME, CoresetConfig(method="el2n"))


def test_a_key_that_occurs_twice_is_an_error():
    with pytest.raises(DataError, match="sample '10' is scored more than once"):
        choose_rows(FRAME.with_columns(id=pl.lit(10)), TWO, key="id")


def test_a_method_that_reads_its_own_feature_gets_that_column():
    frame = FRAME.with_columns(el2n=pl.Series([0.1, 0.9, 0.8, 0.2]))
    assert choose_rows(frame, CoresetConfig(method="el2n", count=2))["id"].to_list() == [10, 20]
