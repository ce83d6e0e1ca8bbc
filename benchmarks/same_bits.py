"""Runs the demo's nights in a checkout and prints a hash of everything they made, so that two checkouts can be compared.

    python benchmarks/same_bits.py CHECKOUT > old.json      # once in each checkout, with one virtual environment
    python benchmarks/same_bits.py --compare old.json new.json

Names of nights hold a hash of the code. They are replaced by the number of the night before anything is hashed.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
from deltalake import DeltaTable

DEMO = "deployments/examples/demo.toml"
TABLES = ("interactions", "items", "samples", "influences", "efforts", "coresets", "evaluations")
UNSTABLE = {"path", "model", "at", "file"}
"""Columns that hold names of nights, hashes of code or paths."""
METHODS = ("less", "gradsim-diverse", "datainf", "rds", "goracs", "grand", "ccs", "dsir", "tf-dcon", "recranker")
"""Selection methods that are run to the coreset on the first day, beside the three whole nights of each backend."""

RUN = """
import sys, json
from datetime import date
from flows.nightly import nightly
from tasks.nights import NightRequest
for each in json.loads(sys.argv[1]):
    nightly(NightRequest(day=date.fromisoformat(each["day"]), config=each["config"], overrides=each["set"], only=each["only"]))
"""


def run(checkout: Path, methods: list[str]) -> dict[str, Any]:
    """Hashes by name: of three nights of each backend, and of a first night's coreset by each method; what is there is kept."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "PREFECT_HOME": str(checkout / "var/prefect")}
    environment |= {"OMP_WAIT_POLICY": "PASSIVE", "PREFECT_LOGGING_LEVEL": "WARNING"}
    environment |= {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
    }
    (checkout / "var/prefect").mkdir(parents=True, exist_ok=True)
    if not (checkout / "var/demo/lake").is_dir():
        demo = [sys.executable, "-m", "flows.cli", "demo"]
        subprocess.run(demo, cwd=checkout, env=environment, check=True, stdout=sys.stderr)
    days = sorted(
        json.loads(path.read_bytes())["day"] for path in checkout.glob("var/demo/lake/nights/*/manifest.json")
    )
    nights = [_night(day, "tiger", ["recommender.backend=tiger"]) for day in days]
    to_the_coreset = ["ingest", "retrain-surrogate", "score-samples", "select-coreset"]
    nights += [_night(days[0], method, [f"coreset.method={method}"], to_the_coreset) for method in methods]
    subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(nights)], cwd=checkout, env=environment, check=True, stdout=sys.stderr
    )
    lakes = {"bigrec": "var/demo", **{name: f"var/same-bits/{name}" for name in ("tiger", *methods)}}
    return {name: digest(checkout / home / "lake") for name, home in lakes.items()}


def _night(day: str, name: str, settings: list[str], only: list[str] | None = None) -> dict[str, Any]:
    home = f"var/same-bits/{name}"
    where = [f"run.home={home}", f"lake.root={home}/lake", f"registry.tracking_uri=sqlite:///{home}/mlflow.db"]
    where.append(f"registry.artifacts={home}/artifacts")
    return {"day": day, "config": DEMO, "set": [*where, *settings], "only": only or []}


def digest(lake: Path) -> dict[str, str]:
    """Hashes of the tables' rows, the models' weights, the emitted samples and the stages' figures."""
    manifests = sorted((json.loads(path.read_bytes()) for path in lake.glob("nights/*/manifest.json")), key=_opened)
    number = {each["night"]: f"night {place}" for place, each in enumerate(manifests)}
    found = {table: _rows(lake / table, number) for table in TABLES if (lake / table).is_dir()}
    for name, short in number.items():
        for path in sorted((lake / "nights" / name / "stages").glob("*.json")):
            record = json.loads(path.read_bytes())
            facts = {key: value for key, value in record["facts"].items() if _is_figure(key, value)}
            found[f"{short} {path.stem}"] = _sha(json.dumps([record["rows"], facts], sort_keys=True).encode())
        for kind in ("surrogate", "recommender"):
            for path in sorted((lake / "models" / kind / name).rglob("*.safetensors")):
                found[f"{short} {kind} {path.name}"] = _sha(path.read_bytes())
        for path in sorted((lake / "emitted/coresets" / name).glob("*.jsonl")):
            found[f"{short} emitted {path.name}"] = _sha(path.read_bytes())
    for path in sorted(lake.glob("models/base/*/*.safetensors")):
        found[f"base {path.name}"] = _sha(path.read_bytes())
    return found


def _opened(manifest: dict[str, Any]) -> str:
    return str(manifest["opened_at"])


def _is_figure(key: str, value: Any) -> bool:
    return isinstance(value, int | float) and key not in {"champion", "mlflow run"}


def _rows(table: Path, number: dict[str, str]) -> str:
    frame = pl.scan_delta(DeltaTable(table)).collect()
    frame = frame.drop([column for column in UNSTABLE if column in frame.columns])
    if "night" in frame.columns:
        frame = frame.with_columns(pl.col("night").replace(number))
    lists = [name for name, kind in frame.schema.items() if isinstance(kind, pl.List)]
    text = frame.with_columns(pl.col(name).list.join("|") for name in lists)
    return _sha(text.sort(text.columns).write_csv(float_precision=17).encode())


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def compare(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """One line for everything that differs."""
    lines = []
    for name in before | after:
        old, new = before.get(name, {}), after.get(name, {})
        lines += [
            f"{name}: {key}: {old.get(key)} -> {new.get(key)}" for key in old | new if old.get(key) != new.get(key)
        ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", nargs="?", type=Path)
    parser.add_argument("--compare", nargs=2, type=Path)
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    given = parser.parse_args()
    if given.compare:
        before, after = (json.loads(path.read_text()) for path in given.compare)
        lines = compare(before, after)
        print("\n".join(lines) or f"the same to the bit: {sum(map(len, before.values()))} hashes")
        sys.exit(bool(lines))
    if given.checkout:
        print(json.dumps(run(given.checkout.resolve(), given.methods), indent=1))


if __name__ == "__main__":
    main()
