"""The served champion under load: `python benchmarks/serving.py --lake var/demo`.

`mlflow models serve` answers on this machine, as docs/operations.md starts it. Measured: the time to the first answer; single requests
from 1, 4 and 16 clients at once (median and 99th percentile in milliseconds, answers a second); the memory of the server over 2,000
requests; and how many of the requests in flight are answered when it is ended with SIGTERM. Beside it stands the model in this process,
with one history at a time and with 16 at once. The database of the registry is copied, and the artifacts are read where they are.
Writes benchmarks/results/serving.json.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd

from benchmarks import town
from benchmarks.machine import machine

RESULTS = town.ROOT / "benchmarks" / "results" / "serving.json"
MODEL = "models:/recommender@champion"
CLIENTS = (1, 4, 16)
TOGETHER = 16
ALONE, BATCHED = "one at a time", f"{TOGETHER} at once"


def main() -> None:
    """Measures, prints and writes the results."""
    options = _options()
    with tempfile.TemporaryDirectory() as name:
        shutil.copy(options.lake / "mlflow.db", f"{name}/mlflow.db")
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{name}/mlflow.db"
        found: dict[str, Any] = {"direct": _direct(options.requests)}
        with _served(Path(name)) as (address, process, seconds):
            found["seconds to the first answer"] = round(seconds, 1)
            found["clients"] = {count: _load(address, count, options.requests) for count in CLIENTS}
            found["memory MiB"] = _memory(address, process.pid, options.many)
            found["SIGTERM"] = _ended(address, process)
    best = max(each["answers a second"] for each in found["clients"].values())
    found["share of the model called one at a time"] = round(best / found["direct"][ALONE], 2)
    found["share of the model called in batches"] = round(best / found["direct"][BATCHED], 2)
    found["machine"] = machine()
    options.results.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


def _histories(count: int) -> list[list[str]]:
    """Histories of two to ten items of the demo's catalogue."""
    random = np.random.default_rng(0)
    return [[f"i{item:05}" for item in random.integers(0, 300, random.integers(2, 11))] for _ in range(count)]


def _direct(count: int) -> dict[str, float]:
    """Answers a second of the model in this process, and how many lists are another one in a batch."""
    import mlflow

    model, histories = mlflow.pyfunc.load_model(MODEL), _histories(count)
    found, lists = {}, {}
    for name, size in ((ALONE, 1), (BATCHED, TOGETHER)):
        model.predict(pd.DataFrame({"history": histories[:size]}))
        began = time.perf_counter()
        answers = [
            model.predict(pd.DataFrame({"history": histories[start : start + size]})) for start in range(0, count, size)
        ]
        found[name] = round(count / (time.perf_counter() - began), 2)
        lists[name] = [list(items) for answer in answers for items in answer["item_ids"]]
    found["lists that differ"] = sum(one != other for one, other in zip(lists[ALONE], lists[BATCHED], strict=True))
    return found


@contextmanager
def _served(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes], float]]:
    """The address and process of a scoring server, and its seconds to the first answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "-m",
        MODEL,
        "--env-manager",
        "local",
        "--port",
        str(port),
    ]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    began = time.monotonic()
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            command, env={**os.environ, "PATH": path}, stdout=log, stderr=log, start_new_session=True
        )
        try:
            address = f"http://127.0.0.1:{port}"
            while not _answers(address):
                if process.poll() is not None or time.monotonic() - began > 300:
                    raise SystemExit((folder / "server.log").read_text())
                time.sleep(0.2)
            yield address, process, time.monotonic() - began
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)  # its own session: the server and its workers
                process.wait()


def _answers(address: str) -> bool:
    try:
        return _ask(address, _histories(1)[0]) > 0
    except httpx.HTTPError:
        return False


def _ask(address: str, history: list[str]) -> float:
    """Seconds of one answered request."""
    began = time.perf_counter()
    request = {"dataframe_split": {"columns": ["history"], "data": [[history]]}}
    answer = _client().post(f"{address}/invocations", json=request)
    answer.raise_for_status()
    if len(answer.json()["predictions"][0]["item_ids"]) != 10:
        raise SystemExit(f"a list without ten items: {answer.text[:200]}")
    return time.perf_counter() - began


@cache
def _client() -> httpx.Client:
    """One for all threads: a new one for each request would cost more than its answer."""
    return httpx.Client(timeout=120)


def _load(address: str, clients: int, count: int) -> dict[str, float]:
    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        seconds = list(pool.map(lambda history: _ask(address, history), _histories(count)))
    middle, late = np.quantile(seconds, [0.5, 0.99]) * 1000
    return {
        "p50 ms": round(middle),
        "p99 ms": round(late),
        "answers a second": round(count / (time.perf_counter() - began), 2),
    }


def _memory(address: str, leader: int, count: int) -> dict[str, float]:
    """Resident memory of the server and its workers before and after some requests."""
    before = _resident(leader)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda history: _ask(address, history), _histories(count)))
    return {"before": before, "after": _resident(leader), "requests": count}


def _resident(leader: int) -> float:
    """MiB of all processes of the server's session."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rsplit(")", 1)[1].split()[3]) == leader:
                total += int((folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:  # it has ended in between
            continue
    return round(total / 2**20, 1)


def _ended(address: str, process: subprocess.Popen[bytes]) -> dict[str, int]:
    """How many of the requests that were in flight at SIGTERM are answered."""

    def is_answered(history: list[str]) -> bool:
        try:
            return _ask(address, history) > 0
        except httpx.HTTPError:
            return False

    with ThreadPoolExecutor(TOGETHER) as pool:
        waiting = [pool.submit(is_answered, history) for history in _histories(TOGETHER)]
        time.sleep(1)  # all of them have arrived, and the first ones may be answered
        process.send_signal(signal.SIGTERM)
        answered = sum(request.result() for request in waiting)
    return {"in flight": TOGETHER, "answered": answered, "exit code": process.wait(60)}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--lake", type=Path, default=town.ROOT / "var" / "demo", help="folder with a registry's mlflow.db"
    )
    parser.add_argument("--requests", type=int, default=64, help="single requests of each number of clients")
    parser.add_argument("--many", type=int, default=2000, help="requests over which memory is watched")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
