"""A study that is killed goes on where it was."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest

from tests.dealrec_core.study.conftest import settings

CELLS = 4


def toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{key}" = {toml(inner)}' for key, inner in value.items()) + " }"
    return json.dumps(value)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    grid = {"datasets": ["tiny"], "backends": ["proxy"], "methods": ["random", "greedy"], "seeds": [0, 1]}
    found = settings(tmp_path, grids={"all": grid}, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    (tmp_path / "study.toml").write_text("\n".join(f"{key} = {toml(value)}" for key, value in found.items()))
    return tmp_path


def start(place: Path) -> subprocess.Popen:
    environment = {**os.environ, "PREFECT_HOME": str(place / "prefect"), "OMP_NUM_THREADS": "1", "PYTHONPATH": "."}
    command = [
        sys.executable,
        "-c",
        "from flows.cli import main; main()",
        "study",
        "--config",
        str(place / "study.toml"),
        "--json",
    ]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finished(place: Path) -> dict[str, int]:
    """Every file of every finished cell with the moment of its last change."""
    return {
        str(file): file.stat().st_mtime_ns
        for file in (place / "study" / "cells").glob("*/*")
        if not file.parent.name.startswith("part-")  # a cell that the kill cut off
    }


@pytest.mark.services
@pytest.mark.timeout(600)
def test_a_study_killed_by_kill_9_goes_on_and_leaves_finished_cells_untouched(place: Path):
    process = start(place)
    deadline = time.monotonic() + 240
    while len(finished(place)) < 2 and process.poll() is None and time.monotonic() < deadline:  # one cell
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)  # with the server that the process had started
    process.communicate()
    before = finished(place)
    assert 2 <= len(before) < 2 * CELLS
    again = start(place)
    out, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors[-2000:]
    summary = json.loads(out[out.index("{") :])
    after = finished(place)
    assert (summary["ran"] + summary["kept"], len(after)) == (CELLS, 2 * CELLS)
    assert summary["kept"] >= len(before) // 2
    assert {name: after[name] for name in before} == before
    assert (place / "study" / "tiny" / "table.csv").exists()
    assert list((place / "study" / "tiny").glob("gains-*.png"))
    mlflow.set_tracking_uri(f"sqlite:///{place}/mlflow.db")
    runs = mlflow.search_runs(experiment_names=["dealrec-study"])
    assert len(runs) == CELLS  # each cell once, the one that the kill cut off included
    assert runs["metrics.ndcg_at_10"].notna().all()
