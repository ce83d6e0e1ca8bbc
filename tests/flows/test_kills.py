"""A small version of benchmarks/kills.py: kill -9 in three stages of one night, then a comparison with an undisturbed one."""

import json
import os
import subprocess
import sys

import pytest


@pytest.mark.services
@pytest.mark.timeout(900)
def test_a_night_that_was_killed_three_times_ends_as_an_undisturbed_one(tmp_path):
    results = tmp_path / "kills.json"
    where = ["--folder", str(tmp_path / "towns"), "--results", str(results)]
    stages = ["ingest", "effort", "promotion"]
    done = subprocess.run(
        [sys.executable, "benchmarks/kills.py", "--kills", "3", *where, "--stages", *stages],
        env={name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    found = json.loads(results.read_text())
    assert (found["kills"], found["by_stage"]) == (3, dict.fromkeys(stages, 1))
    assert (found["differences"], found["not_hit"]) == ([], [])
    assert found["compared"]["table"] == 11
