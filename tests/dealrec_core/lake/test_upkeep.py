"""Compaction, vacuum and pins, with real processes where they meet an ingest."""

import os
import subprocess
import sys
import time
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from deltalake import write_deltalake

from dealrec_core import schema
from dealrec_core.errors import LakeError
from dealrec_core.ingest import interactions
from dealrec_core.lake import Lake, nights, promotions, sums, upkeep
from dealrec_core.lake.draft import open_draft
from dealrec_core.lake.nights import Champion, Snapshot
from dealrec_core.settings import Config
from dealrec_core.settings.sources import InteractionSource, SourcesConfig

NEW_YEAR = 1767225600  # 2026-01-01T00:00:00Z
DAY = 86_400
SCHEMA = pl.Schema({"value": pl.Int64()})


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def add(lake: Lake, *values: int) -> None:
    lake.append("t", pl.DataFrame({"value": list(values)}, schema=SCHEMA), schema=SCHEMA)


def values(lake: Lake, version: int | None = None) -> list[int]:
    return sorted(lake.scan("t", version).collect()["value"].to_list())


def test_compaction_joins_files_and_the_change_feed_says_nothing(lake):
    for value in range(5):
        add(lake, value)
    assert upkeep.compact(lake, "t", file_mib=1) == 5
    report = upkeep.look(lake, "t", pins=set())
    assert (report.rows, report.files, report.old_files, report.version) == (5, 1, 5, 5)
    assert values(lake) == values(lake, 4) == [0, 1, 2, 3, 4]
    handle = lake.open("t")
    assert handle is not None
    assert pl.DataFrame(handle.load_cdf(0).read_all()).height == 5
    assert upkeep.compact(lake, "t", file_mib=1) == 0


def test_a_draft_that_looked_before_a_compaction_lands_after_it(lake):
    add(lake, 0)
    add(lake, 1)
    draft = open_draft(lake, "t", schema=SCHEMA)
    draft.write(pl.DataFrame({"value": [2]}, schema=SCHEMA))
    assert upkeep.compact(lake, "t", file_mib=1) == 2
    draft.commit({})
    assert values(lake) == [0, 1, 2]


def test_a_vacuum_leaves_the_versions_to_keep_and_orphans_of_the_retention(lake):
    for value in range(4):
        lake.replace("t", pl.DataFrame({"value": [value]}, schema=SCHEMA), schema=SCHEMA)
    lake.write_bytes("t/orphan.parquet", b"an ingest was killed")
    assert upkeep.vacuum(lake, "t", keep={1, 99}, retention_hours=24) == 0
    assert upkeep.vacuum(lake, "t", keep={1, 99}, retention_hours=0) == 3  # versions 0 and 2, and the orphan
    assert values(lake) == [3]
    assert values(lake, 1) == [1]
    with pytest.raises(LakeError, match="of version 0 in .* is gone: a vacuum removed it"):
        values(lake, 0)


def test_old_versions_stay_readable_after_the_time_when_the_format_drops_its_log(lake):
    """By default a checkpoint, at every hundredth commit, drops commits older than 30 days, and with them the versions."""
    write_deltalake(lake.uri("t"), pl.DataFrame({"value": [0]}, schema=SCHEMA))  # as a table of an older program
    upkeep.settle(lake, "t")
    long_ago = time.time() - 400 * DAY
    for commit in (Path(lake.root) / "t" / "_delta_log").iterdir():
        os.utime(commit, (long_ago, long_ago))
    for value in range(1, 105):
        add(lake, value)
    assert len(list((Path(lake.root) / "t" / "_delta_log").glob("*.checkpoint.parquet"))) == 2
    assert values(lake, 0) == [0]


def opened(lake: Lake, day: int, *, version: int) -> nights.Night:
    """A night that has taken version `version` of `t` and registered a model."""
    config = Config(sources=SourcesConfig(root="nowhere", interactions=InteractionSource(files=["*"])))
    now = datetime(2026, 1, day, tzinfo=UTC)
    tonight = nights.open_night(config, date(2026, 1, day), lake=lake, champion=None, now=now)
    tonight.record(Snapshot(stage="ingest", table="t", version=version, facts={"items version": version + 10}))
    return tonight


def decide(lake: Lake, tonight: nights.Night, action: str) -> None:
    model = Champion(
        night=tonight.name, bundle="b", version=tonight.name, trained_through=datetime(2026, 1, 1, tzinfo=UTC)
    )
    promotions.record(
        lake, night=model, action=action, reason="r", who="test", now=datetime(2026, 1, tonight.day.day, tzinfo=UTC)
    )


def test_pins_are_the_versions_of_the_newest_nights_of_registered_models_and_of_champions(lake):
    first, second, third, _ = (opened(lake, day, version=day) for day in (1, 2, 3, 4))
    decide(lake, first, promotions.PROMOTED)
    decide(lake, second, promotions.REJECTED)
    decide(lake, third, promotions.REJECTED)

    def pinned(registered: set[str] | None) -> tuple[set[int], set[int]]:
        pins = upkeep.pinned(lake, registered=registered, newest=1)
        return pins["t"], pins["items"]

    assert pinned(None) == ({1, 2, 3, 4}, {11, 12, 13, 14})  # nobody knows: every decision counts
    assert pinned({third.name}) == ({1, 3, 4}, {11, 13, 14})
    assert pinned(set()) == ({1, 4}, {11, 14})


def test_the_versions_that_a_night_found_when_it_opened_are_pinned(lake, monkeypatch):
    monkeypatch.setattr(sums, "of_tables", lambda *_: {})  # version 15 is there in name only
    lake.append("items", pl.DataFrame(schema=schema.ITEMS), schema=schema.ITEMS)
    opened(lake, 1, version=5)
    assert upkeep.pinned(lake, registered=None, newest=1)["items"] == {0, 15}


INGEST = """
import sys, time
from datetime import date
from pathlib import Path
from dealrec_core.ingest import interactions
from dealrec_core.lake import Lake
from dealrec_core.settings.sources import InteractionSource, SourcesConfig
lake, raw, name = Lake(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
for number in range(int(sys.argv[4])):
    lines = [f"{name}{number},{row},{1767225600 + row % 3 * 86400}" for row in range(200)]
    (raw / f"{name}{number}.csv.part").write_text("user_id,item_id,timestamp\\n" + "\\n".join(lines) + "\\n,no user,1767225600\\n")
    (raw / f"{name}{number}.csv.part").rename(raw / f"{name}{number}.csv")
    source = InteractionSource(files=[f"{name}*.csv"] if name == "a" else ["*.csv"])
    config = SourcesConfig(root=str(raw), interactions=source)
    interactions.ingest(lake, config, through=date(2026, 1, 9), partition="day")
print("done")
"""


def test_compaction_beside_two_ingests_loses_and_doubles_nothing(lake, tmp_path):
    raw, loads = tmp_path / "raw", 12
    raw.mkdir()
    commands = [[sys.executable, "-c", INGEST, lake.root, str(raw), name, str(loads)] for name in "ab"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for command in commands]
    joined = 0
    while any(process.poll() is None for process in running):
        for table in ("interactions", "files", "quarantine"):
            joined += upkeep.compact(lake, table, file_mib=1)
    for process in running:
        out, err = process.communicate()
        assert out == b"done\n", err.decode()
    config = SourcesConfig(root=str(raw), interactions=InteractionSource(files=["*.csv"]))
    interactions.ingest(lake, config, through=date(2026, 1, 9), partition="day")
    events = lake.scan("interactions").select("user_id", "item_id", "timestamp").collect()
    assert joined > 0
    assert events.height == events.unique().height == 2 * loads * 200
    assert lake.scan("quarantine").collect().height == 2 * loads
    files = lake.scan("files").collect()
    assert files["inserted"].sum() == 2 * loads * 200
    sent = files.select(pl.sum_horizontal("earlier", "inserted", "duplicates", "quarantined"))
    assert files["rows"].to_list() == sent.to_series().to_list()
    handle = lake.open("interactions")
    assert handle is not None
    feed = pl.DataFrame(handle.load_cdf(0).read_all())
    assert (feed.height, set(feed["_change_type"])) == (2 * loads * 200, {"insert"})


def test_a_table_that_is_not_there_is_left_alone(lake):
    assert upkeep.compact(lake, "t", file_mib=1) == upkeep.vacuum(lake, "t", keep=set(), retention_hours=24) == 0
    with pytest.raises(LakeError, match="no table 't'"):
        upkeep.look(lake, "t", pins=set())
