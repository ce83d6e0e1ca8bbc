"""Folders that are whole or not there."""

import os
from pathlib import Path

import pytest

from dealrec_core.language import whole


def test_a_folder_has_its_name_only_when_it_is_finished(tmp_path: Path) -> None:
    with whole.folder(tmp_path / "a" / "made") as part:
        (part / "inner").mkdir()
        (part / "inner" / "file").write_text("content")
        assert not (tmp_path / "a" / "made").exists()
    assert (tmp_path / "a" / "made" / "inner" / "file").read_text() == "content"
    assert os.listdir(tmp_path / "a") == ["made"]


def test_a_block_that_raises_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> None:
        with whole.folder(tmp_path / "made") as part:
            (part / "half").write_text("half")
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        broken()
    assert os.listdir(tmp_path) == []


def test_the_folder_of_a_faster_process_stays(tmp_path: Path) -> None:
    with whole.folder(tmp_path / "made") as part:
        (part / "file").write_text("ours")
        (tmp_path / "made").mkdir()
        (tmp_path / "made" / "file").write_text("theirs")
    assert (tmp_path / "made" / "file").read_text() == "theirs"
    assert os.listdir(tmp_path) == ["made"]


def test_a_sealed_folder_tells_which_files_changed(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    for name in ("first", "inner/second"):
        (tmp_path / name).write_text(name)
    whole.seal(tmp_path, "hashes.json")
    assert whole.changes(tmp_path, "hashes.json") == {}
    before = whole.sha256(tmp_path / "inner" / "second")
    (tmp_path / "inner" / "second").write_text("other")
    assert whole.changes(tmp_path, "hashes.json") == {"inner/second": (whole.sha256(tmp_path / "inner/second"), before)}
    (tmp_path / "first").unlink()
    with pytest.raises(OSError, match="first"):
        whole.changes(tmp_path, "hashes.json")


def test_a_file_is_written_in_one_step_over_an_older_one(tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        whole.write(tmp_path / "inner" / "file", content)
    assert (tmp_path / "inner" / "file").read_bytes() == b"second"
    assert os.listdir(tmp_path / "inner") == ["file"]
