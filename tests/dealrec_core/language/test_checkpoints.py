"""Checkpoints: whole or not there."""

from pathlib import Path

import pytest
import torch

from dealrec_core.language import checkpoints
from dealrec_core.language.checkpoints import Checkpoint


def _write(folder: Path, step: int, *, fingerprint: str = "f") -> None:
    checkpoints.write(folder, Checkpoint(step, {"w": torch.tensor([float(step)])}, {"fingerprint": fingerprint}))


def _newest_step(folder: Path) -> int | None:
    found = checkpoints.newest(folder, fingerprint="f")
    return None if found is None else found.step


def test_the_newest_is_read_back(tmp_path: Path) -> None:
    _write(tmp_path, 9)
    _write(tmp_path, 10)
    found = checkpoints.newest(tmp_path, fingerprint="f")
    assert found is not None
    assert (found.step, found.tensors["w"].item()) == (10, 10.0)


def test_only_the_newest_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        _write(tmp_path, step)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-000000002", "step-000000003"]


@pytest.mark.parametrize("name", [checkpoints.TENSORS, checkpoints.FACTS, checkpoints.COMPLETE])
@pytest.mark.parametrize("torn", ["missing", "half"])
def test_a_torn_checkpoint_is_passed_over(tmp_path: Path, name: str, torn: str) -> None:
    _write(tmp_path, 1)
    _write(tmp_path, 2)
    path = tmp_path / "step-000000002" / name
    if torn == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert _newest_step(tmp_path) == 1


def test_an_unfinished_folder_is_no_checkpoint_and_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "part-000000003").mkdir()
    assert _newest_step(tmp_path) is None
    _write(tmp_path, 3)
    assert _newest_step(tmp_path) == 3


def test_another_runs_checkpoint_is_not_taken(tmp_path: Path) -> None:
    _write(tmp_path, 1)
    _write(tmp_path, 2, fingerprint="another")
    assert _newest_step(tmp_path) == 1


def test_no_folder_means_no_checkpoint(tmp_path: Path) -> None:
    assert _newest_step(tmp_path / "nothing") is None
