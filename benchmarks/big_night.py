"""Nights on PostgreSQL, S3, MLflow's server and Ray against the embedded defaults: `python benchmarks/big_night.py`.

Two towns read the same log. One is a folder: SQLite, files, threads. The other is an installation on many
machines, on this one: PostgreSQL behind Prefect and MLflow, raw files, lake and artifacts in a bucket of Ceph's S3 gateway,
files and effort shards on a Ray cluster. There the last night is killed (SIGKILL) inside fine-tuning and started again.
At the end the tables, every byte of the emitted coresets and all weights must be the same, and again after upkeep and the erasure of a
user. Writes benchmarks/results/big_night.json;
exit 1 on any difference.
"""

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import polars as pl
import s3fs

from benchmarks import servers
from benchmarks import town as towns
from benchmarks.machine import machine
from dealrec_core.lake import Lake
from dealrec_core.lake.nights import Night, nights
from tests import ceph

RESULTS = towns.ROOT / "benchmarks" / "results" / "big_night.json"
BUCKET = "s3://dealrec"
TABLES = ("interactions", "items", "quarantine", "samples", "influences", "efforts", "coresets", "evaluations")
NOT_COMPARED = {"at", "taken_at", "path", "stamp", "mlflow run"}
"""Clock times, addresses and identifiers that are drawn anew."""
KILLED_AFTER, KILLED_IN = "coreset", "fine_tune"
SHARDS = ["effort.shard_samples=200"]
ERASED = "u00001"


def main() -> int:
    """Runs both towns, prints what differs, and writes the results."""
    options = _options()
    if lacking := missing():
        print("not run:", "; ".join(lacking))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers end with it
    with towns.folder(options.folder) as folder:
        found = run(folder, count=options.nights)
    Path(options.results).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
    return 1 if any(found[name] for name in found if name.startswith("differences")) else 0


def missing() -> list[str]:
    """Programs that this machine lacks."""
    return [reason for reason in (ceph.missing(), servers.missing_postgres()) if reason]


def run(folder: Path, *, count: int) -> dict[str, Any]:
    """The nights of both towns, the last one killed once, and their comparison."""
    started = time.monotonic()
    seconds: dict[str, Any] = {}
    for number in range(count):
        towns.write_day(folder, number)
    with servers.prefect(folder) as api:
        small = _Place(folder / "embedded", towns.overrides(folder, "embedded") + SHARDS, {"PREFECT_API_URL": api})
        seconds["embedded"] = [small.night(number) for number in range(count)]
    with ExitStack() as stack:
        big, database = _start(folder, stack)
        seconds["servers started"] = round(time.monotonic() - started - sum(seconds["embedded"]), 1)
        _upload(folder)
        undisturbed = [big.night(number) for number in range(count - 1)]
        seconds["many machines"] = [*undisturbed, big.killed_night(count - 1), big.night(count - 1)]
        found = _compare(small.lake, big.lake)
        big.run("upkeep")
        for place in (small, big):
            place.run("erase-user", ERASED, "--now")
        after = _compare(small.lake, big.lake)
        databases = _databases(database)
    return {
        **found,
        "differences after upkeep there and the erasure of a user": after["differences"],
        "killed": f"SIGKILL after '{KILLED_AFTER}' was recorded, inside '{KILLED_IN}'",
        "rows in PostgreSQL": databases,
        "seconds": seconds,
        "machine": machine(),
    }


class _Place:
    """A town: its settings and the environment of its processes."""

    def __init__(self, folder: Path, overrides: list[str], environment: dict[str, str]) -> None:
        folder.mkdir()
        self.folder, self.overrides = folder, overrides
        self.environment = {**os.environ, "PREFECT_HOME": str(folder / "prefect-client"), **environment}

    @property
    def lake(self) -> Lake:
        return Lake(next(each.split("=", 1)[1] for each in self.overrides if each.startswith("lake.root=")))

    def night(self, number: int) -> float:
        """Runs or continues a night; its seconds."""
        return self.run("nightly", "--day", str(towns.day(number)))

    def run(self, *words: str) -> float:
        """Runs a command as a user does; its seconds."""
        started = time.monotonic()
        with self._start(*words) as process:
            if process.wait():
                raise SystemExit(f"dealrec {' '.join(words)} failed; see {self.folder}/commands.log")
        return round(time.monotonic() - started, 1)

    def killed_night(self, number: int) -> float:
        """Runs a night until a stage has begun, and kills it there."""
        started = time.monotonic()
        with self._start("nightly", "--day", str(towns.day(number))) as process:
            while process.poll() is None and not self._has(KILLED_AFTER, number):
                time.sleep(0.2)
            time.sleep(0.5)
            process.send_signal(signal.SIGKILL)
            process.wait()
        if process.returncode != -signal.SIGKILL or self._has(KILLED_IN, number):
            raise SystemExit(f"the night was not killed inside {KILLED_IN}; see {self.folder}/commands.log")
        return round(time.monotonic() - started, 1)

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        sets = [word for each in self.overrides for word in ("--set", each)]
        command = [sys.executable, "-m", "flows.cli", *words, "--config", towns.DEMO, *sets]
        log = (self.folder / "commands.log").open("a")
        return subprocess.Popen(command, env=self.environment, cwd=towns.ROOT, stdout=log, stderr=log)

    def _has(self, stage: str, number: int) -> bool:
        paths = self.lake.list_paths("nights")
        return any(f"nights/{towns.day(number)}" in path and path.endswith(f"/{stage}.json") for path in paths)


def _start(folder: Path, stack: ExitStack) -> tuple[_Place, str]:
    """Starts all servers and makes the bucket; the town that uses them, and its PostgreSQL."""
    (folder / "ceph").mkdir()
    store = stack.enter_context(ceph.serve(folder / "ceph"))
    os.environ |= {
        "AWS_ENDPOINT_URL": store,
        "MLFLOW_S3_ENDPOINT_URL": store,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": ceph.KEY,
        "AWS_SECRET_ACCESS_KEY": ceph.SECRET,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
    }
    s3fs.S3FileSystem(endpoint_url=store).mkdir(BUCKET)
    database = stack.enter_context(servers.postgres(folder))
    api = stack.enter_context(servers.prefect(folder, database))
    registry = stack.enter_context(servers.mlflow(folder, database, f"{BUCKET}/mlflow"))
    cluster = stack.enter_context(servers.ray(folder, {"PREFECT_API_URL": api}))
    places = [
        f"run.home={folder}/many",
        f"lake.root={BUCKET}/lake",
        f"sources.root={BUCKET}/raw",
        f"registry.tracking_uri={registry}",
        f"registry.artifacts={BUCKET}/mlflow",
        "run.engine=ray",
        f"run.ray_address={cluster}",
    ]
    return _Place(folder / "many", [*towns.SMALL, *SHARDS, *places], {"PREFECT_API_URL": api}), database


def _upload(folder: Path) -> None:
    s3fs.S3FileSystem(endpoint_url=os.environ["AWS_ENDPOINT_URL"]).put(
        f"{folder}/data/", f"{BUCKET}/raw/", recursive=True
    )


def _compare(small: Lake, big: Lake) -> dict[str, Any]:
    """How many things are the same, and which are not; the nights have other names, since they read other addresses."""
    names = {theirs.name: ours.name for ours, theirs in zip(nights(small), nights(big), strict=True)}
    ours: dict[str, Any] = {**_tables(small, {}), **_coresets(small, nights(small), {})}
    theirs = {**_tables(big, names), **_coresets(big, nights(big), names)}
    differences = [key for key in sorted(ours.keys() | theirs.keys()) if not _same(ours.get(key), theirs.get(key))]
    rows = {table: len(ours[f"table {table}"]) for table in TABLES}
    files = {key: len(value) for key, value in ours.items() if isinstance(value, bytes)}
    chosen = {night.name: night.need("coreset").rows for night in nights(small)}
    return {"differences": differences, "rows": rows, "bytes of coresets and weights": files, "coreset samples": chosen}


def _same(ours: Any, theirs: Any) -> bool:
    return bool(ours.equals(theirs)) if isinstance(ours, pl.DataFrame) and theirs is not None else ours == theirs


def _tables(lake: Lake, names: dict[str, str]) -> dict[str, pl.DataFrame]:
    found = {}
    for table in TABLES:
        rows = lake.scan(table).collect()
        kept = rows.drop([name for name in rows.columns if name in NOT_COMPARED])
        found[f"table {table}"] = kept.with_columns(pl.col("night").replace(names)) if "night" in kept.columns else kept
    return {key: rows.sort(pl.all().exclude(pl.List(pl.String))) for key, rows in found.items()}


def _coresets(lake: Lake, made: list[Night], names: dict[str, str]) -> dict[str, bytes]:
    """Every emitted file and all weights; the sums of files that hold the night's name are left out."""
    found = {}
    for night in made:
        name = names.get(night.name, night.name)
        paths = [*lake.list_paths(f"emitted/coresets/{night.name}"), *lake.list_paths("models")]
        for path in paths:
            if path.startswith("models") and not (path.endswith(".safetensors") and night.name in path):
                continue
            content = lake.read_bytes(path).replace(night.name.encode(), name.encode())
            if path.endswith("manifest.json"):
                content = _without_sums(content)
            if not path.endswith("sha256sums.json"):
                found[path.replace(night.name, name)] = content
    return found


def _without_sums(manifest: bytes) -> bytes:
    """A coreset's manifest without the sums over its card and over the surrogate's lineage, which hold the night's name."""
    described = json.loads(manifest)
    del described["files"]["README.md"], described["models"]["surrogate"]
    return json.dumps(described).encode()


def _databases(database: str) -> dict[str, int]:
    """Evidence that the servers used PostgreSQL."""
    counted = {"prefect": ("flow_run", "task_run", "artifact"), "mlflow": ("runs", "model_versions")}
    found = {}
    for name, tables in counted.items():
        for table in tables:
            found[f"{name}.{table}"] = servers.count_rows(database, name, table)
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nights", type=int, default=2)
    parser.add_argument("--folder", help="where the towns are kept; a temporary folder when left out")
    parser.add_argument("--results", default=str(RESULTS))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
