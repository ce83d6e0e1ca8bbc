"""What a power cut does to a lake is found, repaired where it can be, and never read as if it were whole."""

import shutil
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from dealrec_core.errors import LakeError
from dealrec_core.ingest import interactions
from dealrec_core.ingest.item_files import ingest_items
from dealrec_core.lake import Lake, checkup, damage, nights
from dealrec_core.lake.nights import Snapshot
from dealrec_core.samples import sample_table
from dealrec_core.settings import Config
from dealrec_core.settings.sources import InteractionSource, ItemSource, SourcesConfig
from flows import look

DEMO = "deployments/examples/demo.toml"
NEW_YEAR, DAY = 1767225600, 86_400
TABLES = ("interactions", "items", "files", "quarantine", "samples")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Two days of a log with a bad row a day, their samples, and a night with a finished stage."""
    folder = tmp_path_factory.mktemp("town")
    lake, raw = Lake(str(folder / "lake")), folder / "raw"
    raw.mkdir()
    inputs = SourcesConfig(
        root=str(raw),
        interactions=InteractionSource(files=["log*.csv"]),
        items=ItemSource(files=["items*.csv"]),
        max_bad_fraction=1,
    )
    for day in (0, 1):
        rows = [f"{user},{item},{NEW_YEAR + day * DAY + hour}" for user in "xy" for hour, item in enumerate("abc")]
        (raw / f"log{day}.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows, "x,a,soon"]) + "\n")
        (raw / f"items{day}.csv").write_text(f"item_id,title\n{'ab'[day]},Title {day}\n")
        ingest_items(lake, inputs)
        interactions.ingest(lake, inputs, through=date(2026, 1, 9), partition="day")
        sample_table.update(lake, log_version=lake.version("interactions"), length=3)
    config = Config(sources=inputs)
    night = nights.open_night(config, date(2026, 1, 2), lake=lake, champion=None, now=datetime(2026, 1, 3, tzinfo=UTC))
    night.record(Snapshot(stage="ingest", table="interactions", version=lake.version("interactions")))
    return Path(lake.root)


@pytest.fixture
def lake(made, tmp_path) -> Lake:
    shutil.copytree(made, tmp_path / "lake")
    return Lake(str(tmp_path / "lake"))


def content(lake: Lake, table: str) -> list[str]:
    return sorted(map(str, lake.scan(table).collect().iter_rows()))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def last_commit(lake: Lake, table: str) -> Path:
    return Path(lake.root) / damage.log(table, lake.version(table))


def newest_data(lake: Lake, table: str) -> Path:
    return max((Path(path) for path in lake.open(table).file_uris()), key=lambda path: path.stat().st_mtime_ns)


def test_a_whole_lake_has_no_damage(lake):
    assert checkup.damages(lake) == []


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("strike", [empty, tear, Path.unlink], ids=["zero length", "torn", "gone"])
def test_a_lost_last_commit_is_found_told_to_every_reader_and_written_again(lake, table, strike):
    before, path = content(lake, table), last_commit(lake, table)
    strike(path)
    for read in (lake.scan, lake.open, lake.version):
        with pytest.raises(LakeError, match="dealrec doctor"):
            read(table)
    (found,) = checkup.damages(lake)
    assert found.path == str(path.relative_to(lake.root))
    assert "`dealrec doctor --repair` repairs it" in str(found)
    checkup.repair(lake, [found])
    assert checkup.damages(lake) == []
    assert content(lake, table) == before


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("strike", [empty, tear, Path.unlink], ids=["zero length", "torn", "gone"])
def test_a_damaged_data_file_is_found_and_no_reader_panics(lake, table, strike):
    path = newest_data(lake, table)
    strike(path)
    with pytest.raises(LakeError, match=r"of version \d+ in .*; run `dealrec doctor`"):
        lake.scan(table)
    (found,) = checkup.damages(lake)
    assert found.path == str(path.relative_to(lake.root))
    assert "restore it from a backup" in str(found)
    assert not found.is_repairable
    assert ("remove the folder samples" in str(found)) == (table == "samples")


def test_a_data_file_whose_end_the_disk_has_lost_but_not_its_length_is_found(lake):
    path = newest_data(lake, "items")
    path.write_bytes(path.read_bytes()[:-8] + bytes(8))
    assert [str(found).split(";")[0] for found in checkup.damages(lake)] == [f"items/{path.name} is torn"]


def test_a_write_that_did_not_count_before_the_power_was_cut_is_moved_away(lake):
    version, before = lake.version("items"), content(lake, "items")
    (Path(lake.root) / damage.log("items", version + 1)).write_bytes(b'{"commitInfo"')
    (found,) = checkup.damages(lake)
    assert "its write did not count, and the next night does it again" in str(found)
    checkup.repair(lake, [found])
    assert (lake.version("items"), content(lake, "items"), checkup.damages(lake)) == (version, before, [])
    assert lake.exists_path(f"damaged/{found.path}")


def test_a_commit_that_was_lost_in_a_table_of_an_older_program_is_told_and_kept(lake):
    path = last_commit(lake, "quarantine")
    (Path(lake.root) / damage.copy("quarantine")).unlink()
    tear(path)
    (found,) = checkup.damages(lake)
    assert "restore it from a backup; without one, the rows of this write are lost" in str(found)
    checkup.repair(lake, [found])
    assert checkup.damages(lake) == [found]


def test_a_version_that_a_night_names_and_the_log_lacks_is_found_without_a_copy(lake):
    path = last_commit(lake, "interactions")
    (Path(lake.root) / damage.copy("interactions")).unlink()
    path.unlink()
    (found,) = checkup.damages(lake)
    assert str(found).startswith(f"interactions/_delta_log/{path.name} is gone; it cannot be repaired")


@pytest.mark.parametrize("strike", [empty, tear], ids=["zero length", "torn"])
def test_a_damaged_stage_record_is_told_in_a_line_and_its_stage_is_done_again(lake, strike):
    (night,) = nights.nights(lake)
    strike(Path(lake.root) / f"nights/{night.name}/stages/ingest.json")
    with pytest.raises(LakeError, match=r"stages/ingest.json in .* cannot be read .*; run `dealrec doctor`"):
        night.find("ingest")
    (found,) = checkup.damages(lake)
    checkup.repair(lake, [found])
    assert checkup.damages(lake) == []
    assert night.find("ingest") is None


def test_the_doctor_prints_a_line_for_each_damage_and_repairs_on_demand(lake, monkeypatch, tmp_path):
    monkeypatch.setattr(look, "_registry", lambda _: "answers")
    sets = [f"lake.root={lake.root}", f"run.home={tmp_path}", f"sources.root={Path(__file__).parent}"]
    empty(last_commit(lake, "items"))
    tear(newest_data(lake, "files"))
    lines = [check.state for check in look.doctor(DEMO, sets) if check.what == "damage"]
    assert [line.split("/")[0] for line in lines] == ["items", "files"]
    assert not any("\n" in line for line in lines)
    lines = [check.state for check in look.doctor(DEMO, sets, repair=True) if check.what == "damage"]
    assert [line.split("/")[0] for line in lines] == ["files"]


@pytest.mark.parametrize("has_begun", [True, False])
@pytest.mark.parametrize("strike", [empty, tear], ids=["zero length", "torn"])
def test_a_damaged_manifest_is_told_in_a_line_and_moved_away_where_no_stage_had_finished(lake, strike, has_begun):
    (night,) = nights.nights(lake)
    if not has_begun:
        lake.remove(f"nights/{night.name}/stages/ingest.json")
    strike(Path(lake.root) / f"nights/{night.name}/manifest.json")
    with pytest.raises(LakeError, match=r"manifest.json in .* cannot be read .*; run `dealrec doctor`"):
        nights.nights(lake)
    (found,) = checkup.damages(lake)
    checkup.repair(lake, [found])
    assert ("in the MLflow run of the night" in str(found)) == has_begun
    assert checkup.damages(lake) == ([found] if has_begun else [])
