"""The wheel holds the library and the command, and installs neither Prefect nor MLflow unless asked to."""

import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SERVERS = {"prefect", "mlflow", "fastapi", "flask-wtf", "sqlalchemy", "s3fs", "ray", "boto3", "psycopg2-binary"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_the_wheel_holds_the_library_its_types_and_the_command(wheel):
    names = wheel.namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {
        "dealrec_core",
        "tasks",
        "flows",
        "deployments",
    }
    for name in ("dealrec_core/py.typed", "flows/command.py", "deployments/pipeline.toml", "deployments/prefect.yaml"):
        assert name in names
    points = next(name for name in names if name.endswith("entry_points.txt"))
    assert "dealrec = flows.command:main" in wheel.read(points).decode()


def test_the_core_needs_no_server_and_the_pipeline_brings_them(wheel):
    described = Parser().parsestr(wheel.read(next(n for n in wheel.namelist() if n.endswith("METADATA"))).decode())
    needs = [line.partition(";") for line in described.get_all("Requires-Dist")]
    core = {package.split(">=")[0].split("<")[0].split("[")[0].strip() for package, _, marker in needs if not marker}
    pipeline = {
        package.split(">=")[0].split("<")[0].split("[")[0].strip()
        for package, _, extra in needs
        if "'pipeline'" in extra
    }
    assert core & SERVERS == set()
    assert {"torch", "polars", "transformers"} <= core
    assert {"prefect", "mlflow", "typer"} <= pipeline
    assert {"pipeline", "servers", "ray", "study", "docs"} <= set(described.get_all("Provides-Extra"))


@pytest.mark.parametrize("absent", [("prefect", "mlflow"), ("matplotlib",)])
def test_the_command_without_the_pipeline_says_in_one_line_what_to_install(absent):
    program = f"""
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name in {absent} else find(name)
from flows.command import main
main()
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"error: the command dealrec needs {', '.join(absent)}, which the library alone does not install; "
        "run pip install 'dealrec[pipeline]'\n"
    )
