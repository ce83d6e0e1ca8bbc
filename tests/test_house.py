"""The house stays a house: few names at the top, short functions, and looking at a lake costs no network."""

import ast
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(path for folder in ("dealrec_core", "tasks", "flows") for path in (ROOT / folder).rglob("*.py"))
HEAVY = {"torch", "transformers", "peft", "mlflow"}
LOOKS = [
    "import dealrec_core.lake.promotions",
    "import dealrec_core.settings, dealrec_core.ingest.interactions",
    "import flows.cli, flows.look, tasks.report.trace, tasks.erasure",
    "from flows.look import status; status(CONFIG, OVERRIDES)",
    "from flows.look import plan; plan(CONFIG, OVERRIDES, None)",
    "from flows.look import first_rows; first_rows(CONFIG, OVERRIDES)",
]


@pytest.mark.parametrize("code", LOOKS)
def test_looking_at_a_lake_imports_no_network_and_no_mlflow(code, tmp_path):
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\na,b,1700000000\n")
    (tmp_path / "pipeline.toml").write_text('[sources.interactions]\nfiles = ["*.csv"]\n')
    overrides = [f"sources.root={tmp_path}", f"lake.root={tmp_path}/lake", f"run.home={tmp_path}"]
    program = f"""
import sys
CONFIG, OVERRIDES = {str(tmp_path / "pipeline.toml")!r}, {overrides!r}
{code}
print(sorted({HEAVY!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_status_of_a_lake_with_promotions_needs_no_arrow(tmp_path):
    program = f"""
import sys
from datetime import UTC, datetime
from dealrec_core.lake import Lake, promotions
from dealrec_core.lake.nights import Champion
now = datetime.now(UTC)
lake, model = Lake({str(tmp_path)!r}), Champion(night="n", bundle="b", version="1", trained_through=now)
if sys.argv[1] == "write":
    promotions.record(lake, night=model, action="promoted", reason="", who="me", now=now)
else:
    from flows.look import status
    line = status("deployments/examples/demo.toml", ["lake.root={tmp_path}"]).champion
    print(line, sorted({{"pyarrow", "numpy"}} & set(sys.modules)))
"""
    for what in ("write", "look"):
        command = [sys.executable, "-c", program, what]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "version 1 of night n []", done.stderr


def test_settings_need_no_frames_either():
    program = "import sys, dealrec_core.settings; print(sorted({'polars', 'numpy', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_core_has_eleven_rooms_on_errors_and_schema():
    names = {path.name for path in (ROOT / "dealrec_core").iterdir() if not path.name.startswith("__")}
    rooms = {"settings", "lake", "ingest", "samples", "language", "surrogate"}
    rooms |= {"influence", "coreset", "recommenders", "evaluation", "study"}
    assert names == rooms | {"errors.py", "schema.py", "py.typed"}


def test_functions_and_modules_are_short():
    lengths = [len(path.read_text("utf-8").splitlines()) for path in SOURCES]
    functions = {
        f"{path.relative_to(ROOT)}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: length for name, length in functions.items() if length > 60} == {}
    assert statistics.median(lengths) <= 120
    assert max(lengths) <= 400
