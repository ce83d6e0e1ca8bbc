import os

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dealrec_core.ingest import spill
from dealrec_core.ingest.raw.batch import HASH, KEY
from dealrec_core.ingest.spill import Spill


def rows(keys: list[int]) -> pl.DataFrame:
    return pl.DataFrame(
        {KEY: keys, HASH: np.random.default_rng(0).permutation(len(keys)), "value": range(len(keys))},
        schema={KEY: pl.Int64, HASH: pl.UInt64, "value": pl.Int64},
    )


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(spill, "MEMORY_ROWS", 20)
    monkeypatch.setattr(spill, "RUN_ROWS", 6)


def test_rows_come_back_by_key_though_most_of_them_waited_in_files():
    with Spill(portion_rows=10) as waiting:
        for start in range(0, 60, 5):
            waiting.add(rows([(place * 7) % 12 for place in range(start, start + 5)]))
        portions = list(waiting.portions())
        assert [portion.height for portion in portions] == [10] * 6  # twelve keys of five rows, two in a portion
        assert pl.concat(portions)[KEY].is_sorted()
        assert waiting._folder is not None


def test_the_files_are_gone_afterwards(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Spill() as waiting:
        for _ in range(5):
            waiting.add(rows([1] * 10))
        assert list(tmp_path.rglob("*.parquet"))
    assert not list(tmp_path.iterdir())


def test_a_key_with_too_many_rows_is_divided_by_hash():
    with Spill(portion_rows=10) as waiting:
        waiting.add(rows([1, 1, *[2] * 35, 3]))
        portions = [portion for portion in waiting.portions() if 2 in portion[KEY]]
    assert len(portions) == 4
    assert sum(portion.height for portion in portions) == 35


def test_more_equal_rows_than_fit_into_a_portion_stay_together():
    with Spill(portion_rows=4) as waiting:
        waiting.add(rows([5] * 30).with_columns(pl.lit(9, dtype=pl.UInt64).alias(HASH)))
        assert [portion.height for portion in waiting.portions()] == [30]


def test_no_rows_give_no_portions():
    with Spill() as waiting:
        assert list(waiting.portions()) == []


@given(keys=st.lists(st.integers(0, 5), max_size=80), parts=st.integers(1, 5), size=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_or_doubled(keys, parts, size):
    whole = rows(keys)
    with Spill(portion_rows=size) as waiting:
        for part in range(parts):
            waiting.add(whole[part::parts])
        portions = list(waiting.portions())
    values = [value for portion in portions for value in portion["value"]]
    assert sorted(values) == list(range(len(keys)))


def test_what_a_killed_process_left_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dead, alive = tmp_path / f"{spill.PREFIX}{2**22 + 1}-x", tmp_path / f"{spill.PREFIX}{os.getpid()}-x"
    dead.mkdir()
    alive.mkdir()
    with Spill() as waiting:
        for _ in range(5):
            waiting.add(rows([1] * 10))
        assert not dead.exists()
    assert alive.exists()
