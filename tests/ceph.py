"""A real S3 server for tests: Ceph's gateway with one monitor, one manager and one store, all in memory and one folder."""

import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("radosgw", "ceph-mon", "ceph-mgr", "ceph-osd", "ceph", "monmaptool", "ceph-authtool", "radosgw-admin")
PACKAGES = "radosgw ceph-mon ceph-mgr ceph-osd"
KEY, SECRET = "key", "secret"
OTHERS = ("worker", "mlflow")
"""Two more users, who may do nothing at first; their names are their keys, too, and their secret is SECRET."""
START_S = 120

CONFIGURATION = """
[global]
fsid = {cluster}
mon host = v1:127.0.0.1:{monitor}
mon initial members = a
ms bind msgr2 = false
public network = 127.0.0.0/8
auth cluster required = none
auth service required = none
auth client required = none
osd objectstore = memstore
memstore device bytes = 4294967296
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data = {folder}/mon
mgr data = {folder}/mgr
osd data = {folder}/osd
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{gateway}
rgw thread pool size = 32
keyring = {folder}/keyring
run dir = {folder}
admin socket = {folder}/$name.$pid.asok
log file = {folder}/$name.log
"""


def missing() -> str | None:
    """Why there is no such server here, None where there is."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"no {', '.join(absent)}: apt-get install {PACKAGES}" if absent else None


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """The address of a server that knows the user `dealrec`, whose key is KEY with SECRET, and OTHERS; about 12 seconds to start."""
    monitor, gateway = _free_port(), _free_port()
    cluster, store = str(uuid.uuid4()), str(uuid.uuid4())
    configuration = folder / "ceph.conf"
    configuration.write_text(
        CONFIGURATION.format(cluster=cluster, monitor=monitor, gateway=gateway, folder=folder), encoding="utf-8"
    )
    for name in ("mon", "mgr", "osd", "rgw"):
        (folder / name).mkdir()
    caps = ["--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *"]
    keyring, monmap = str(folder / "keyring"), str(folder / "monmap")

    def run(*command: str) -> None:
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            timeout=START_S,
            env={**os.environ, "CEPH_CONF": str(configuration)},
        )

    with ExitStack() as running:

        def start(*command: str) -> subprocess.Popen[bytes]:
            options = [*command, "-c", str(configuration), "-f"]
            process = subprocess.Popen(options, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            running.callback(process.wait)
            running.callback(process.kill)
            return process

        run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        run("ceph-authtool", keyring, "--gen-key", "-n", "client.admin", *caps)
        run("monmaptool", "--create", "--addv", "a", f"[v1:127.0.0.1:{monitor}]", "--fsid", cluster, monmap)
        run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring, "-c", str(configuration))
        start("ceph-mon", "-i", "a")
        start("ceph-mgr", "-i", "a")
        run("ceph", "osd", "new", store)
        run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", store, "-c", str(configuration))
        for _ in range(10):
            if _lives(start("ceph-osd", "-i", "0")):
                break
        start("radosgw", "-n", "client.admin")
        _wait_for(gateway)
        for name, key in {"dealrec": KEY, **dict(zip(OTHERS, OTHERS, strict=True))}.items():
            user = ["--uid", name, "--display-name", name, "--access-key", key, "--secret-key", SECRET]
            run("radosgw-admin", "-c", str(configuration), "user", "create", *user)
        yield f"http://127.0.0.1:{gateway}"


def _lives(process: subprocess.Popen[bytes]) -> bool:
    """Whether a store still runs after a moment: it gives up when it asks a monitor that has just started for the cluster."""
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        return True
    return False


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_for(port: int) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"no answer on port {port} in {START_S} s")
