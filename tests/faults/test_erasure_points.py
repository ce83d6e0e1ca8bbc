"""An erasure always ends: whatever call of it the disk fails at, it goes on when it is run again."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
STRIDE = int(os.environ.get("DEALREC_FAULT_STRIDE", "25"))
"""Of so many calls one is tried; 1 tries all, which takes minutes."""


@pytest.fixture(scope="session")
def disk(tmp_path_factory) -> Path:
    """The library that makes a disk fail, compiled; skipped on a user's machine without a C compiler, an error in CI."""
    compiler = shutil.which("cc")
    if compiler is None:
        message = "no C compiler: cc builds tests/faults/disk.c"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    library = tmp_path_factory.mktemp("disk") / "disk.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, HERE / "disk.c", "-ldl"], check=True)
    return library


@pytest.mark.timeout(1800)
def test_an_erasure_goes_on_after_a_kill_a_torn_write_or_a_full_disk_at_any_call(disk, tmp_path):
    command = [sys.executable, str(HERE / "erasure_points.py"), str(tmp_path), str(STRIDE)]
    environment = {**os.environ, "LD_PRELOAD": str(disk), "PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert len(result["tried"]) == 6
    assert min(result["tried"].values()) > 0
    assert result["problems"] == []
