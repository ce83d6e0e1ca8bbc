"""deployments/up.sh with stand-ins for the servers: its secrets, its patience, and how it ends."""

import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.deployments.conftest import free_ports

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = """#!/usr/bin/env bash
case "$*" in
    *"flows.cli deploy"*) exit 0 ;;
    *"prefect server"*) name=prefect ;;
    *"mlflow server"*) name=mlflow ;;
    *"worker start"*) name=worker ;;
    *) name=other ;;
esac
env > "$DEALREC_VAR/$name.environment"
if [ "$name" = "$PARENT" ]; then sleep 1000 & fi
echo $$ > "$DEALREC_VAR/$name.pid"
if [ "$name" = "$REAL" ]; then touch "$DEALREC_VAR/$name.answers"; exec "$PYTHON" "$@"; fi
if [ -n "$HANG" ]; then trap '' TERM INT; fi
if [ "$name" = "$SILENT" ]; then exec sleep 1000; fi
if [ "$name" = "$SLOW" ]; then for step in 1 2 3 4 5 6 7; do sleep 0.7; echo "step $step"; done; fi
touch "$DEALREC_VAR/$name.answers"
if [ -n "$HANG" ]; then while true; do sleep 1000; done; fi
exec sleep 1000
"""
CURL = """#!/usr/bin/env bash
case "$*" in *4200*) test -f "$DEALREC_VAR/prefect.answers" ;; *) test -f "$DEALREC_VAR/mlflow.answers" ;; esac
"""


class Start:
    """up.sh as it runs, with a folder of its own."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder, bin = folder, folder / "bin"
        bin.mkdir(exist_ok=True)
        for name, text in {"python": STAND_IN, "curl": CURL}.items():
            (bin / name).write_text(text)
            (bin / name).chmod(0o755)
        for left in folder.glob("*.answers"):
            left.unlink()
        places = {"DEALREC_BIN": str(bin), "DEALREC_VAR": str(folder), "PATH": f"{bin}:{os.environ['PATH']}"}
        self.log = (folder / "up.log").open("w+")
        self.process = subprocess.Popen(
            [ROOT / "deployments" / "up.sh"],
            env={
                **os.environ,
                **dict.fromkeys(("SILENT", "SLOW", "HANG", "PARENT", "REAL"), ""),
                **places,
                **environment,
            },
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def said(self) -> str:
        return (self.folder / "up.log").read_text()

    def wait_until_up(self) -> None:
        self.wait_for(lambda: "dealrec is up" in self.said())

    def wait_for(self, is_met: Callable[[], bool]) -> None:
        for _ in range(600):
            if is_met():
                return
            assert self.process.poll() is None, self.said()
            time.sleep(0.1)
        raise AssertionError(self.said())

    def below(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def start(tmp_path) -> Iterator[type[Start]]:
    started: list[Start] = []

    def one(**environment: str) -> Start:
        started.append(Start(tmp_path, **environment))
        return started[-1]

    yield one
    for each in started:
        if each.process.poll() is None:
            for process in [each.process, *each.below()]:  # the script first: it starts its services again
                process.kill()


@pytest.mark.parametrize(("sent", "hangs"), [(signal.SIGINT, "yes"), (signal.SIGTERM, "")])
def test_it_ends_on_a_signal_also_where_every_service_hangs_and_leaves_nothing_running(start, sent, hangs):
    up = start(HANG=hangs)
    up.wait_until_up()
    below = up.below()
    assert len(below) >= 5
    os.kill(up.process.pid, sent)
    assert up.process.wait(120) == 0
    assert alive(below) == []


def test_a_service_that_dies_is_named_and_started_again_and_at_its_fourth_end_the_others_are_stopped(start, tmp_path):
    up = start(PARENT="mlflow")
    up.wait_until_up()
    killed, below = set(), set()
    for number in range(1, 5):
        up.wait_for(lambda: (tmp_path / "mlflow.pid").read_text().strip() not in {"", *killed})
        below |= set(up.below())
        pid = (tmp_path / "mlflow.pid").read_text().strip()
        killed.add(pid)
        os.kill(int(pid), signal.SIGKILL)  # its child lives on, as the child of a server that holds the port would
        if number < 4:
            up.wait_for(lambda number=number: f"is started again ({number} of 3)" in up.said())
    assert up.process.wait(120) == 1
    said = f"mlflow ended with exit status 137; see {tmp_path}/logs/mlflow.log; it is"
    assert up.said().count(f"warning: {said} started again") == 3
    assert f"error: {said} not started again" in up.said()
    assert len(below) >= 11
    assert alive(list(below)) == []


def test_a_worker_that_ends_together_with_prefect_is_started_again_after_it(start, tmp_path):
    up = start()
    up.wait_until_up()
    up.wait_for((tmp_path / "worker.pid").exists)
    (tmp_path / "prefect.answers").unlink()
    os.kill(int((tmp_path / "worker.pid").read_text()), signal.SIGKILL)
    time.sleep(1)  # up.sh asks Prefect, which does not answer any more
    os.kill(int((tmp_path / "prefect.pid").read_text()), signal.SIGKILL)
    up.wait_for(lambda: up.said().count("is started again (1 of 3)") == 2)
    assert up.said().index("warning: prefect ended") < up.said().index("warning: worker-")


def test_a_server_is_waited_for_as_long_as_it_works_and_not_longer(start):
    start(SLOW="mlflow", DEALREC_PATIENCE_S="4").wait_until_up()  # needs 5 s, and says something every 0.7 s


def test_a_server_that_does_nothing_is_given_up_with_the_place_to_look(start):
    up = start(SILENT="prefect", DEALREC_PATIENCE_S="2")
    assert up.process.wait(120) == 1
    assert "error: prefect does not answer at http://127.0.0.1:4200/api/health; see" in up.said()


def test_secrets_are_made_once_for_this_user_alone_and_each_service_has_only_its_own(start, tmp_path):
    first = start()
    first.wait_until_up()
    files = {path.name: path for path in (tmp_path / "secrets").iterdir()}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.values()} == {0o600}
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    made = {name: path.read_text().strip() for name, path in files.items() if not path.suffix}
    assert len(set(made.values())) == 5
    assert all(len(secret) == 44 for secret in made.values())  # 32 bytes in base64
    assert not [name for name, secret in made.items() if secret in first.said()]
    held = {path.stem: path.read_text() for path in tmp_path.glob("*.environment")}
    assert [name for name in held if made["mlflow-page-key"] in held[name]] == ["mlflow"]
    assert [name for name in held if "PREFECT_SERVER_API_AUTH_STRING" in held[name]] == ["prefect"]
    assert "MLFLOW_AUTH_ADMIN_PASSWORD" not in held["other"]
    os.kill(first.process.pid, signal.SIGTERM)
    first.process.wait(120)
    files["prefect-password"].unlink()  # the way to change it
    start().wait_until_up()
    again = {name: path.read_text().strip() for name, path in files.items() if not path.suffix}
    assert [name for name in made if again[name] != made[name]] == ["prefect-password"]
    assert f"PREFECT_API_AUTH_STRING=dealrec:{again['prefect-password']}" in files["login.sh"].read_text()


@pytest.mark.services
def test_mlflows_password_is_changed_as_the_page_says(start, tmp_path):
    (tmp_path / "var").symlink_to(tmp_path)
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "security.md").read_text("utf-8"), re.DOTALL)
    address = f"http://127.0.0.1:{free_ports(1)[0]}"
    options = {"REAL": "mlflow", "PYTHON": sys.executable, "MLFLOW_PORT": address.rsplit(":", 1)[1]}
    up = start(**options)
    up.wait_until_up()
    up.wait_for(lambda: answer(f"{address}/health") == 200)
    old = (tmp_path / "secrets" / "mlflow-password").read_text().strip()
    shell = f". secrets/login.sh; exec {shlex.quote(sys.executable)} -c {shlex.quote(snippet)}"
    subprocess.run(["bash", "-c", shell], cwd=tmp_path, check=True, timeout=120)
    os.kill(up.process.pid, signal.SIGTERM)
    up.process.wait(120)
    again = start(**options)
    again.wait_until_up()
    again.wait_for(lambda: answer(f"{address}/health") == 200)
    new = (tmp_path / "secrets" / "mlflow-password").read_text().strip()
    assert f"MLFLOW_TRACKING_PASSWORD={new}" in (tmp_path / "secrets" / "login.sh").read_text().splitlines()[-2]
    asked = f"{address}/api/2.0/mlflow/experiments/get?experiment_id=0"
    assert [answer(asked, ("dealrec", password)) for password in (old, new)] == [401, 200]


def answer(address: str, login: tuple[str, str] | None = None) -> int:
    """The status of the answer; 0 where there is none."""
    try:
        return httpx.get(address, auth=login, timeout=60).status_code
    except httpx.TransportError:
        return 0
