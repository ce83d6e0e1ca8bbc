"""`make up` on free ports, with a small log, for tests that need the real servers."""

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import httpx
import psutil
import pytest

from benchmarks import town as towns

SMALL = {
    f"DEALREC_{setting.split('=')[0].replace('.', '__').upper()}": setting.split("=")[1]
    for setting in towns.SMALL
    if "ratio" not in setting
}


ALARM_TOKEN, S3_SECRET = "planted-alarm-token", "planted-s3-secret"
"""Secrets of a user's environment, planted to be looked for."""


@dataclass(frozen=True)
class Site:
    """Where the pages of a running installation are, and how to log in there."""

    folder: Path
    prefect: str
    mlflow: str
    bridge: str
    process: subprocess.Popen[bytes]
    alarms: list[dict]
    """What was posted to DEALREC_ALERT_URL."""

    @cached_property
    def login(self) -> dict[str, str]:
        """The variables that log a shell in."""
        text = (self.folder / "secrets" / "login.sh").read_text("utf-8")
        return dict(re.findall(r"^export (\w+)=(.*)$", text, re.MULTILINE))

    @cached_property
    def client(self) -> httpx.Client:
        """A client that is logged in to Prefect and holds its token against forged requests."""
        user, password = self.login["PREFECT_API_AUTH_STRING"].split(":")
        client = httpx.Client(base_url=f"{self.prefect}/api", auth=(user, password), timeout=60)
        token = client.get("/csrf-token", params={"client": "tests"}).raise_for_status().json()["token"]
        client.headers.update({"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "tests"})
        return client

    def secrets(self) -> dict[str, list[bytes]]:
        """Every secret of the installation, as it is and as a header or an address holds it."""
        files = [path for path in (self.folder / "secrets").iterdir() if not path.suffix]
        secrets = {path.name: path.read_text("utf-8").strip() for path in files}
        pairs = {"prefect-password": self.login["PREFECT_API_AUTH_STRING"]}
        pairs["mlflow-password"] = f"{self.login['MLFLOW_TRACKING_USERNAME']}:{self.login['MLFLOW_TRACKING_PASSWORD']}"
        forms = {name: [text.encode(), quote(text).encode()] for name, text in secrets.items()}
        for name, pair in pairs.items():
            forms[name].append(base64.b64encode(pair.encode()))
        return {**forms, "alarm token": [ALARM_TOKEN.encode()], "S3 secret": [S3_SECRET.encode()]}

    def leaks(self) -> list[str]:
        """Files of the installation, outside of the folder for secrets, and alarms that hold one of them."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and path.parent.name != "secrets"]
        contents = {path.relative_to(self.folder): path.read_bytes() for path in files}
        contents[Path("alarms")] = json.dumps(self.alarms).encode()
        return [
            f"{name} in {path}"
            for path, content in contents.items()
            for name, forms in self.secrets().items()
            if any(form in content for form in forms)
        ]

    def api(self, path: str, body: dict | None = None) -> object:
        """An answer of Prefect's API; POST when there is a body."""
        for _ in range(10):
            answer = self.client.get(path) if body is None else self.client.post(path, json=body)
            if answer.status_code != 503:  # SQLite is locked: Prefect's own client asks again, too
                break
            time.sleep(2)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def wait(self, run_id: str, states: set[str], *, seconds: float = 240) -> dict:
        """The run when it has reached one of the states."""
        for _ in range(int(seconds)):
            run = self.api(f"/flow_runs/{run_id}")
            if run["state"]["type"] in states:
                return run
            time.sleep(1)
        raise AssertionError(f"run {run['name']} is {run['state']} after {seconds} s")

    def start(self, name: str, parameters: dict) -> dict:
        """A run of a deployment."""
        deployment = self.api(f"/deployments/name/{name}/{name}")
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        return self.api(f"/deployments/{deployment['id']}/create_flow_run", body)

    def heard(self, alarm: str, *, seconds: int = 60, **facts: str) -> dict:
        """The alarm of that name with these facts."""
        for _ in range(seconds):
            for message in self.alarms:
                if {"alarm": alarm, **facts}.items() <= message.items():
                    return message
            time.sleep(1)
        raise AssertionError(f"no alarm '{alarm}' among {self.alarms}")


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _said(folder: Path) -> str:
    """The output of up.sh, and the last 3,000 characters of the log of each service."""
    logs = [folder / "up.log", *sorted((folder / "logs").glob("*.log"))]
    return "\n".join(f"== {path.name}\n{path.read_text('utf-8', errors='replace')[-3000:]}" for path in logs)


@pytest.fixture(scope="session")
def alarms() -> Iterator[tuple[str, list[dict]]]:
    """An address that takes JSON, and what it was sent."""
    heard: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/alarms?token={ALARM_TOKEN}", heard
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, alarms: tuple[str, list[dict]]) -> Iterator[Site]:
    """Both servers, the bridge and two workers, started by the script behind `make up`."""
    folder = tmp_path_factory.mktemp("site")
    towns.write_day(folder, 0)
    prefect, mlflow, bridge = free_ports(3)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        **SMALL,
        "DEALREC_BIN": str(Path(sys.executable).parent),
        "DEALREC_VAR": str(folder),
        "DEALREC_CONFIG": "deployments/examples/demo.toml",
        "DEALREC_RUN__HOME": str(folder),
        "DEALREC_LAKE__ROOT": f"{folder}/lake",
        "DEALREC_SOURCES__ROOT": f"{folder}/data",
        "DEALREC_REGISTRY__ARTIFACTS": f"{folder}/artifacts",
        "PREFECT_PORT": str(prefect),
        "MLFLOW_PORT": str(mlflow),
        "BRIDGE_PORT": str(bridge),
        "DEALREC_ALERT_URL": alarms[0],
        "AWS_SECRET_ACCESS_KEY": S3_SECRET,
    }
    log = (folder / "up.log").open("wb")
    process = subprocess.Popen(["deployments/up.sh"], env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(800):
            said = (folder / "up.log").read_text()
            if "dealrec is up" in said:
                break
            assert process.poll() is None, _said(folder)
            time.sleep(1)
        else:
            raise AssertionError(f"not up after 800 s: {said}")
        yield Site(
            folder,
            f"http://127.0.0.1:{prefect}",
            f"http://127.0.0.1:{mlflow}",
            f"http://127.0.0.1:{bridge}",
            process,
            alarms[1],
        )
        assert process.poll() is None, f"the site ended by itself\n{_said(folder)}"
    finally:
        below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            for each in [process, *below]:  # the script first: it starts its services again
                each.kill()
