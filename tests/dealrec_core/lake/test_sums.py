"""What a night uses is what a stage has recorded, also where a file was changed together with the list beside it."""

import hashlib
import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from dealrec_core.errors import LakeError
from dealrec_core.lake import Lake, nights, scrub, sums, upkeep
from dealrec_core.lake.nights import Night, Snapshot
from dealrec_core.lake.store import SUMS
from dealrec_core.schema import INFLUENCES
from dealrec_core.settings import Config
from dealrec_core.settings.sources import InteractionSource, SourcesConfig
from tasks import storage

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def scored(lake: Lake, day: int) -> Night:
    """A night that has written ten influences and recorded them."""
    config = Config(sources=SourcesConfig(root="nowhere", interactions=InteractionSource(files=["*"])))
    now = NOW + timedelta(days=day)
    night = nights.open_night(config, date(2026, 1, day), lake=lake, champion=None, now=now)
    ids = [f"{day}-{number}" for number in range(10)]
    rows = pl.DataFrame({"night": night.name, "sample_id": ids, "influence": 0.5}).select(INFLUENCES.names())
    version = lake.append("influences", rows, schema=INFLUENCES)
    night.record(Snapshot(stage="influence", table="influences", version=version))
    return night


def again(night: Night) -> Night:
    return nights.reopen(night.name, night.lake)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def files(lake: Lake) -> list[Path]:
    return sorted(Path(lake.root, "influences").glob("*.parquet"))


def test_every_flipped_bit_of_a_recorded_table_is_found_before_a_row_is_read(lake):
    night = scored(lake, 1)
    (file,) = files(lake)
    whole = file.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 80)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(LakeError, match=r"influences/.*parquet in .* is not what was recorded \(sha256 differs\)"):
            again(night).scan("influences", 0)
    file.write_bytes(whole)
    assert again(night).scan("influences", 0).collect().height == 10


def test_a_file_changed_together_with_the_list_of_hashes_is_refused_by_the_record(lake):
    night = scored(lake, 1)
    (file,) = files(lake)
    flip(file)
    path = f"nights/{night.name}/sums/influence.json"
    assert json.loads(lake.read_bytes(path)).keys() == {f"influences/{file.name}"}
    lake.write_bytes(path, json.dumps({f"influences/{file.name}": _sha256(file)}).encode())
    with pytest.raises(LakeError, match="sums/influence.json in .* is not what was recorded"):
        again(night).scan("influences", 0)


def test_the_next_night_does_not_bless_what_was_changed_between_nights(lake):
    scored(lake, 1)
    flip(files(lake)[0])
    night = scored(lake, 2)
    with pytest.raises(LakeError, match="is not what was recorded"):
        again(night).scan("influences", 1)


def test_a_night_hashes_new_files_alone_and_those_of_a_compaction(lake, monkeypatch):
    hashed: list[str] = []
    monkeypatch.setattr(sums, "_hash", lambda lake, path: hashed.append(path) or _sha256(lake.local_path(path)))
    scored(lake, 1)
    second = scored(lake, 2)
    assert len(hashed) == 2  # one new file in each night
    assert upkeep.compact(lake, "influences", file_mib=1) == 2
    third = scored(lake, 3)
    assert len(hashed) == 4  # the joined file, and the new one
    assert again(third).scan("influences", None).collect().height == 30
    assert again(second).scan("influences", 1).collect().height == 20


def test_a_published_folder_changed_with_its_sums_is_refused(lake, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"123")
    sha256 = storage.publish(lake, tmp_path / "model", "models/a")
    lake.write_bytes("models/a/weights", b"124")
    lake.write_bytes(f"models/a/{SUMS}", json.dumps({"weights": hashlib.sha256(b"124").hexdigest()}).encode())
    with pytest.raises(LakeError, match=f"models/a/{SUMS} is not what the night recorded"):
        storage.local_copy(lake, "models/a", home=str(tmp_path), sha256=sha256)
    with pytest.raises(LakeError, match="is not what the night recorded"):
        storage.published(lake, "models/a", sha256)


def test_a_scrub_finds_what_no_night_reads_any_more_and_is_made_again_until_it_is_mended(lake, tmp_path):
    night = scored(lake, 1)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"123")
    sha256 = storage.publish(lake, tmp_path / "model", "models/a")
    night.record(Snapshot(stage="fine_tune", path="models/a", sha256=sha256))
    assert scrub.is_due(lake, now=NOW, days=28)
    clean = scrub.scrub(lake, now=NOW)
    assert (clean.files, clean.damages, str(clean)) == (2, [], "2 files read on 2026-01-01, none was changed")
    assert not scrub.is_due(lake, now=NOW + timedelta(days=27), days=28)
    assert scrub.is_due(lake, now=NOW + timedelta(days=28), days=28)
    flip(files(lake)[0])
    lake.write_bytes("models/a/weights", b"124")
    damaged = scrub.scrub(lake, now=NOW)
    assert damaged.damages == [f"influences/{files(lake)[0].name}", "models/a/weights"]
    assert scrub.last(lake) == damaged
    assert scrub.is_due(lake, now=NOW, days=28)
    flip(files(lake)[0])
    lake.write_bytes("models/a/weights", b"123")
    assert scrub.scrub(lake, now=NOW).damages == []


def test_a_lake_of_an_older_program_is_read_without_hashes(lake):
    night = scored(lake, 1)
    older = night.need("influence").model_copy(update={"tables_sha256": None})
    lake.write_bytes(f"nights/{night.name}/stages/influence.json", older.model_dump_json().encode())
    assert again(night).scan("influences", 0).collect().height == 10
    assert again(night).sums("influence") == {}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
