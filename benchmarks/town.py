"""A small town for measurements of whole nights: a log, settings, a Prefect server, and nights in forked processes."""

import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent
DEMO = str(ROOT / "deployments" / "examples" / "demo.toml")
SMALL = [
    "surrogate.epochs=2",
    "surrogate.width=8",
    "language_model.steps=30",
    "language_model.width=32",
    "evaluation.users=40",
    "fine_tune.epochs=2",
    "coreset.method=dealrec",  # asks for influence and effort, so that a night has every stage
    "coreset.ratio=0.1",
    "coreset.least=1",
    "gate.resamples=200",
]


def overrides(folder: Path, town: str, *, size: list[str] = SMALL) -> list[str]:
    """Settings of a town: its own lake and registry, the log shared by all towns of the folder."""
    home = folder / town
    return [
        *size,
        f"run.home={home}",
        f"lake.root={home}/lake",
        f"sources.root={folder}/data",
        f"registry.tracking_uri=sqlite:///{home}/mlflow.db",
        f"registry.artifacts={home}/artifacts",
    ]


def log() -> Any:
    """A log of some 900 events, 60 more each day."""
    from dealrec_core.ingest import synthetic

    return synthetic.SyntheticConfig(users=60, series=12, events_a_day=60, past_days=20)


def day(number: int) -> date:
    """The day of a night."""
    found: date = log().start + timedelta(days=number)
    return found


def write_day(folder: Path, number: int) -> None:
    """Adds a day to the log that all towns of the folder read."""
    from dealrec_core.ingest import synthetic

    synthetic.write_day(folder / "data", number, log())


def in_child(function: Any, *arguments: Any, may_die: bool = False) -> int:
    """Runs a function in a fork of this process, which has imported everything and started no thread."""
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    process.join()
    if process.exitcode and not may_die:
        raise SystemExit(f"{function.__name__}{arguments[1:]} ended with {process.exitcode}")
    return int(process.exitcode or 0)


@contextmanager
def prefect_server(folder: Path) -> Iterator[None]:
    """A server of our own: one that a flow starts for itself would outlive a killed flow and hold the database."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ["PREFECT_HOME"] = str(folder / "prefect")
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "server.log").open("w") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, cwd=ROOT)
        try:
            _await(f"http://127.0.0.1:{port}/api/health")
            _import_everything()
            yield
        finally:
            server.terminate()
            server.wait()


@contextmanager
def s3_store(*buckets: str) -> Iterator[None]:
    """A mock of S3 (moto) with these buckets; the variables AWS_* name it to all nights of the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    os.environ |= {"AWS_ENDPOINT_URL": address, "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    store = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await(address)
        for bucket in buckets:
            urllib.request.urlopen(urllib.request.Request(f"{address}/{bucket}", method="PUT"))
        yield
    finally:
        store.kill()
        store.wait()


@contextmanager
def folder(wanted: str | None) -> Iterator[Path]:
    """The wanted folder, kept afterwards, or a temporary one."""
    if wanted:
        Path(wanted).mkdir(parents=True, exist_ok=True)
        yield Path(wanted)
        return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def machine() -> dict[str, Any]:
    """Facts that a reader needs to compare figures."""
    return {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2), "python": sys.version.split()[0]}


def _import_everything() -> None:
    """Once, before the forks, so that a child starts in a moment."""
    import mlflow.pyfunc
    import transformers

    import flows.nightly  # noqa: F401

    transformers.utils.logging.disable_progress_bar()
    mlflow.set_tracking_uri("sqlite://")


def _await(address: str) -> None:
    for _ in range(240):
        try:
            urllib.request.urlopen(address, timeout=2)
            return
        except OSError:
            time.sleep(0.5)
    raise SystemExit(f"no server at {address}")
