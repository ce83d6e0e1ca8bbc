import signal
import subprocess
import sys
from datetime import date

import polars as pl
import pytest

from dealrec_core.ingest import interactions
from dealrec_core.lake import Lake
from dealrec_core.samples import sample_table, split
from dealrec_core.settings.samples import SamplesConfig
from dealrec_core.settings.sources import InteractionSource, SourcesConfig

NEW_YEAR = 1767225600
DAY = 86_400


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def take(lake, tmp_path):
    """Writes a file of (user, item, day) events and takes it in; gives the version of the log."""
    (tmp_path / "raw").mkdir()

    def take(name: str, *events: tuple[str, str, float]) -> int:
        lines = "".join(f"{user},{item},{NEW_YEAR + int(day * DAY)}\n" for user, item, day in events)
        (tmp_path / "raw" / name).write_text("user_id,item_id,timestamp\n" + lines)
        config = SourcesConfig(root=str(tmp_path / "raw"), interactions=InteractionSource(files=["*.csv"]))
        interactions.ingest(lake, config, through=date(2026, 2, 1), partition="day")
        return lake.version("interactions")

    return take


def update(lake, version, length=3) -> sample_table.Update:
    done = sample_table.update(lake, log_version=version, length=length, before=lake.version("samples"))
    table = lake.scan("samples", done.version).sort("sample_id").collect()
    fresh = split.build(lake.scan("interactions", version), SamplesConfig(history_length=length)).sort("sample_id")
    assert table.select(fresh.columns).equals(fresh)  # whatever was reused, it is what a full build makes
    assert done.rows == fresh.height
    assert table.select(pl.col("timestamp").dt.strftime("%Y-%m-%d") == pl.col("period")).to_series().all()
    return done


FIRST = [("u", "a", 0), ("u", "b", 1), ("u", "c", 2), ("v", "x", 0), ("v", "y", 3), ("w", "z", 1)]


def test_the_first_update_makes_all_samples_and_the_next_only_those_of_new_events(lake, take):
    first = update(lake, take("1.csv", *FIRST))
    assert (first.is_rebuilt, first.written) == (True, 3)
    second = update(lake, take("2.csv", ("u", "d", 4), ("w", "y", 5)))
    assert (second.is_rebuilt, second.written, second.rows) == (False, 2, 5)


def test_a_late_event_changes_the_samples_after_it(lake, take):
    update(lake, take("1.csv", *FIRST))
    done = update(lake, take("2.csv", ("u", "late", 0.5)))
    assert (done.is_rebuilt, done.written, done.rows) == (False, 3, 4)  # its own, b's and c's


def test_the_same_log_again_writes_nothing(lake, take):
    version = take("1.csv", *FIRST)
    first, again = update(lake, version), update(lake, version)
    assert (again.written, again.version) == (0, first.version)


def test_an_update_that_was_killed_after_its_commit_tells_what_it_wrote_and_another_night_does_not(lake, take):
    version = take("1.csv", *FIRST)
    update(lake, version)
    again = sample_table.update(lake, log_version=version, length=3, before=-1)
    assert (again.written, again.is_rebuilt) == (3, True)
    version, before = take("2.csv", ("u", "late", 0.5)), lake.version("samples")
    update(lake, version)
    lake.open("samples").optimize.compact()
    again = sample_table.update(lake, log_version=version, length=3, before=before)
    assert (again.written, again.is_rebuilt) == (3, False)
    later = sample_table.update(lake, log_version=version, length=3, before=lake.version("samples"))
    assert (later.written, later.is_rebuilt) == (0, False)


def test_another_history_length_makes_all_anew_there_and_back(lake, take):
    version = take("1.csv", *FIRST)
    assert [update(lake, version, length).is_rebuilt for length in (3, 1, 3)] == [True] * 3


def test_an_older_log_makes_all_anew(lake, take):
    old = take("1.csv", *FIRST)
    new = take("2.csv", ("u", "d", 4))
    assert [update(lake, version).is_rebuilt for version in (new, old)] == [True, True]


def test_a_log_that_lost_rows_makes_all_anew(lake, take):
    update(lake, take("1.csv", *FIRST))
    lake.open("interactions").delete("user_id = 'u'")
    done = update(lake, lake.version("interactions"))
    assert done.is_rebuilt
    assert set(lake.scan("samples", done.version).collect()["user_id"]) == {"v"}


def test_compaction_of_the_log_brings_nothing_new(lake, take):
    update(lake, take("1.csv", *FIRST))
    take("2.csv", ("u", "d", 2.5))
    lake.open("interactions").optimize.compact()
    done = update(lake, lake.version("interactions"))
    assert (done.is_rebuilt, done.written) == (False, 1)


def test_versions_that_upkeep_removed_make_all_anew(lake, take):
    update(lake, take("1.csv", *FIRST))
    take("2.csv", ("u", "d", 2.5))
    lake.open("interactions").optimize.compact()
    lake.open("interactions").vacuum(0, dry_run=False, enforce_retention_duration=False)
    assert update(lake, lake.version("interactions")).is_rebuilt


KILLED = """
import os, signal, sys
from dealrec_core.lake import draft
from dealrec_core.samples import sample_table
from dealrec_core.lake import Lake
draft.Draft.commit = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sample_table.update(Lake(sys.argv[1]), log_version=int(sys.argv[2]), length=3)
"""


def test_an_update_that_is_killed_before_its_commit_is_simply_run_again(lake, take):
    update(lake, take("1.csv", *FIRST))
    version = take("2.csv", ("u", "late", 0.5))
    done = subprocess.run([sys.executable, "-c", KILLED, lake.root, str(version)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert update(lake, version).written == 3


def test_users_are_taken_in_groups_where_they_are_many(lake, take, monkeypatch):
    monkeypatch.setattr(sample_table, "GROUP_USERS", 1)
    monkeypatch.setattr(sample_table, "CHUNK_ROWS", 2)
    update(lake, take("1.csv", *FIRST))
    assert update(lake, take("2.csv", ("u", "d", 4), ("w", "y", 5), ("v", "b", 1))).written == 4
