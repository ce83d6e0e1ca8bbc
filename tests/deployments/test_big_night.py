"""benchmarks/big_night.py: PostgreSQL, S3, MLflow's server and Ray give the coreset that the embedded defaults give."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks import big_night


@pytest.mark.services
@pytest.mark.timeout(1200)
def test_a_night_on_many_machines_killed_once_inside_emits_the_bytes_of_the_embedded_defaults(tmp_path):
    if lacking := big_night.missing():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("; ".join(lacking))
    results = tmp_path / "results.json"
    where = ["--folder", str(tmp_path / "towns"), "--results", str(results)]
    done = subprocess.run(
        [sys.executable, "benchmarks/big_night.py", "--nights", "1", *where],
        env={name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "AWS_"))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads(results.read_text())
    assert found["differences"] == []
    assert min(found["coreset samples"].values()) > 50
    assert found["rows in PostgreSQL"]["prefect.flow_run"] >= 8
    assert found["rows in PostgreSQL"]["mlflow.model_versions"] >= 2  # recommender and surrogate
