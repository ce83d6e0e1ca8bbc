"""`make up` on a fresh clone: seconds until both pages answer, and whether it stops cleanly: `python benchmarks/up.py`.

The checkout's last commit is cloned into a temporary folder and started twice: from nothing, set-up included, and again
with the environment there. Each time it is stopped as Ctrl-C does, and nothing may be left running. Writes
benchmarks/results/up.json; exit 1 when a page took 60 s (set-up apart) or a process was left.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psutil

from benchmarks import servers
from benchmarks.machine import machine

RESULTS = servers.ROOT / "benchmarks" / "results" / "up.json"
BOUND_S = 60
STOP_S = 30


def main() -> int:
    """Measures, prints and writes the results."""
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name) / "dealrec"
        subprocess.run(["git", "clone", "--quiet", str(servers.ROOT), str(clone)], check=True)
        started = time.monotonic()
        subprocess.run(["make", "setup"], cwd=clone, check=True, capture_output=True)
        setup = round(time.monotonic() - started, 1)
        starts = [_up(clone), _up(clone)]
    found = {
        "set-up from nothing, s": setup,
        "first start, s": starts[0],
        "second start, s": starts[1],
        "bound, s": BOUND_S,
        "machine": machine(),
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
    slow = any(start[page] > BOUND_S for start in starts for page in ("prefect", "mlflow"))
    return 1 if slow or any(start["left running"] for start in starts) else 0


def _up(clone: Path) -> dict[str, Any]:
    """Seconds from `make up` to each page and to all deployments, then what stopping took and left."""
    ports = {name: servers.free_port() for name in ("PREFECT_PORT", "MLFLOW_PORT", "BRIDGE_PORT")}
    pages = {
        "prefect": f"http://127.0.0.1:{ports['PREFECT_PORT']}/",  # pages below it are made in the browser
        "mlflow": f"http://127.0.0.1:{ports['MLFLOW_PORT']}/",  # asks for a login
    }
    environment = {**os.environ, **{name: str(port) for name, port in ports.items()}}
    log, started = clone / "up.log", time.monotonic()
    found: dict[str, Any] = {}
    with log.open("w") as output:
        process = subprocess.Popen(
            ["make", "up"],
            cwd=clone,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
            # As in a terminal, also where this script was started with Ctrl-C ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    while len(found) < 3 and process.poll() is None:
        for name, address in pages.items():
            if name not in found and _answers(address):
                found[name] = round(time.monotonic() - started, 1)
        if "is up after" in log.read_text():
            found["deployed"] = round(time.monotonic() - started, 1)
        time.sleep(0.1)
    if process.poll() is not None:
        raise SystemExit(f"make up ended: {log.read_text()[-2000:]}")
    stopped = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        found["did not stop within"] = STOP_S
    found["stopped in"] = round(time.monotonic() - stopped, 1)
    left = _running(clone)
    for each in left:
        each.kill()
    return {**found, "left running": [" ".join(each.info["cmdline"])[:100] for each in left]}


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as answer:
        return answer.code == 401
    except OSError:
        return False


def _running(clone: Path) -> list[psutil.Process]:
    """Processes of the clone's own environment."""
    found = psutil.process_iter(["cmdline"])
    return [each for each in found if any(str(clone) in word for word in each.info["cmdline"] or [])]


if __name__ == "__main__":
    sys.exit(main())
