"""Small versions of the torture benchmarks: the same code, fewer kills and fewer files."""

import pytest

from benchmarks import torture_files, torture_kill


@pytest.mark.timeout(120)
def test_ten_kills_over_two_ingests_and_a_compaction_lose_nothing_and_double_nothing(tmp_path):
    result = torture_kill.torture(tmp_path, kills=10, seed=11, rows=60)
    assert result["kills"] >= 10
    assert result["faults"] == []


@pytest.mark.timeout(120)
def test_every_row_of_300_mutated_files_is_accounted_for(tmp_path):
    assert torture_files.torture(tmp_path, files=300, seed=3)["faults"] == []
