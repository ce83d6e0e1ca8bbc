"""Kills the real servers in the middle of a night: Prefect and MLflow, for half a minute and for good.

`python tests/faults/outages.py` prints how each night ended; it takes some ten minutes. A night whose server comes back must go on by
itself; one whose server does not must end in one line, and be finished by the same command once the server is there again.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks import town as towns

AWAY_S = 30
PREFECT = ("prefect", "server", "start", "--host", "127.0.0.1", "--port")
MLFLOW = ("mlflow", "server", "--host", "127.0.0.1", "--workers", "1", "--port")


class Server:
    """A server that can be killed and started again at the same address."""

    def __init__(self, folder: Path, command: tuple[str, ...], health: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"http://127.0.0.1:{probe.getsockname()[1]}"
        stores = [
            "--backend-store-uri",
            f"sqlite:///{folder}/mlflow.db",
            "--default-artifact-root",
            f"{folder}/artifacts",
        ]
        self.command = [
            sys.executable,
            "-m",
            *command,
            self.address.rsplit(":", 1)[1],
            *(stores if command == MLFLOW else []),
        ]
        self.health, self.log = f"{self.address}{health}", folder / f"{command[0]}.log"
        self.start()

    def start(self) -> None:
        environment = {
            **os.environ,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "PREFECT_HOME": str(self.log.parent / "home"),
        }
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self.command, cwd=towns.ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        for _ in range(600):
            try:
                httpx.get(self.health, timeout=5).raise_for_status()
                return
            except httpx.HTTPError:
                time.sleep(1)
        raise SystemExit(f"{self.health} does not answer; see {self.log}")

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def night(folder: Path, name: str, retries: str) -> subprocess.Popen[str]:
    """A night in a process of its own, on a lake of its own."""
    places = [f"run.home={folder}/{name}", f"lake.root={folder}/{name}/lake", f"sources.root={folder}/data"]
    settings = [*towns.SMALL, *places, f"registry.tracking_uri={os.environ['MLFLOW']}", f"registry.experiment={name}"]
    command = [sys.executable, "-m", "flows.cli", "nightly", "--config", towns.DEMO]
    waits = {"PREFECT_CLIENT_MAX_RETRIES": retries, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": retries}
    return subprocess.Popen(
        [*command, *(word for setting in settings for word in ("--set", setting))],
        cwd=towns.ROOT,
        env={**os.environ, **waits},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def reached(folder: Path, running: subprocess.Popen[str], record: str) -> None:
    """Waits until the night has finished a stage."""
    while running.poll() is None and not list(folder.glob(f"lake/nights/*/stages/{record}.json")):
        time.sleep(0.1)


def told(running: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and last error line of a night; a traceback is told as one."""
    _, errors = running.communicate(timeout=1800)
    lines = [line for line in errors.splitlines() if line.startswith(("error:", "Traceback"))]
    return running.returncode, " / ".join(lines)


def main() -> int:
    """Runs the four outages and prints how each night ended."""
    good = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        towns.write_day(folder, 0)
        servers = {"Prefect": Server(folder, PREFECT, "/api/health"), "MLflow": Server(folder, MLFLOW, "/health")}
        os.environ |= {"PREFECT_API_URL": f"{servers['Prefect'].address}/api", "MLFLOW": servers["MLflow"].address}
        os.environ |= {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PYTHONPATH": str(towns.ROOT)}
        for which, server in servers.items():
            for seconds, record in ((AWAY_S, "influence"), (None, "effort")):
                town = f"{which}-{'back' if seconds else 'gone'}".lower()
                running = night(folder, town, "6" if seconds else "2")
                reached(folder / town, running, record)
                server.kill()
                time.sleep(seconds or 0)
                if seconds:
                    server.start()
                code, line = told(running)
                print_line(f"{which} away {'for half a minute' if seconds else 'for good'}: exit {code} {line}")
                good &= (
                    (code in (0, 3))
                    if seconds
                    else (code == 1 and "Traceback" not in line and line.startswith("error:"))
                )
                if not seconds:
                    server.start()
                    code, line = told(night(folder, town, "6"))
                    print_line(f"  run again with {which}: exit {code} {line}")
                    good &= code in (0, 3)
        for server in servers.values():
            server.kill()
    return 0 if good else 1


def print_line(text: str) -> None:
    """Prints at once, so that somebody who waits sees it."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
