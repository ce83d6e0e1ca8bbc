"""Hostile content lands nowhere but in quarantine, and the good rows around it land."""

import gzip
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from dealrec_core.errors import SourceError
from dealrec_core.ingest import interactions
from dealrec_core.lake import Lake
from dealrec_core.settings.sources import InteractionSource, SourcesConfig

GOOD = b"good,item,1767225600,view\n"


def take(tmp_path: Path, name: str, content: bytes) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What landed, and what is in quarantine."""
    path = tmp_path / "raw" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    source = InteractionSource(files=["**/*.csv*"], user_id="u", item_id="i", timestamp="t", event_type="e")
    config = SourcesConfig(root=str(tmp_path / "raw"), interactions=source, max_bad_fraction=1)
    lake = Lake(str(tmp_path / "lake"))
    report = interactions.ingest(lake, config, through=date(2026, 6, 1), partition="day")
    assert report.rows == report.inserted + report.quarantined
    return lake.scan("interactions").collect(), lake.scan(
        "quarantine"
    ).collect() if report.quarantined else pl.DataFrame()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"a,x,-62135596800,view\n", "unreadable timestamp '-62135596800': no epoch of 1990 to 2200"),
        (b"a,x,0001-01-01,view\n", "timestamp outside 1971 to 2200"),
        (b"a,x,9999-12-31T23:59:59Z,view\n", "timestamp outside 1971 to 2200"),
        (b"a,x,99999999999999999999999,view\n", None),
        (b"\xff,x,1767225600,view\n", "not UTF-8 at byte 1"),
        (b"a\0,x,1767225600,view\n", "a NUL byte"),
        (b"a" * 600 + b",x,1767225600,view\n", "longer than 512 bytes"),
        (b"a" * 3 * 2**20 + b",x,1767225600,view\n", "a line longer than 1 MiB"),
        (b"a" * 20 * 2**20 + b",x,1767225600,view\n", "a line longer than 1 MiB"),
    ],
)
def test_a_hostile_row_goes_to_quarantine_with_its_reason_and_a_bounded_text(tmp_path, line, reason):
    landed, bad = take(tmp_path, "log.csv", b"u,i,t,e\n" + GOOD + line + GOOD.replace(b"good", b"best"))
    assert sorted(landed["user_id"]) == ["best", "good"]
    assert len(bad) == 1
    assert bad["reason"][0].startswith(reason or "")
    assert len(bad["raw"][0]) <= 500


@pytest.mark.parametrize("word", ["../../x", "/etc/passwd", "a/../../b", "%2e%2e%2fx"])
def test_ids_types_and_folders_that_look_like_paths_are_only_text(tmp_path, word):
    landed, _ = take(tmp_path, "day=..%2F..%2Fx/log.csv", f"u,i,t,e\n{word},{word},1767225600,{word}\n".encode())
    assert landed.select("user_id", "item_id", "event_type").rows() == [(word, word, word)]
    assert {path.name for path in tmp_path.iterdir()} == {"raw", "lake"}
    assert {path.name for path in (tmp_path / "lake" / "interactions").iterdir()} == {"_delta_log", "period=2026-01-01"}


def test_ids_beyond_64_bits_land_digit_for_digit(tmp_path):
    landed, _ = take(tmp_path, "log.csv", b"u,i,t,e\n123456789012345678901234567890,x,1767225600,view\n")
    assert landed["user_id"].to_list() == ["123456789012345678901234567890"]


def test_a_disk_that_fails_is_no_broken_file(tmp_path, monkeypatch):
    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("gzip.GzipFile.read", fail)
    with pytest.raises(SourceError, match="Input/output error; start the night again"):
        take(tmp_path, "log.csv.gz", gzip.compress(b"u,i,t,e\n" + GOOD))
    assert not Lake(str(tmp_path / "lake")).exists("quarantine")
