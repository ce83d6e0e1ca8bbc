"""The servers of an installation on many machines, started on this one: PostgreSQL, Prefect, MLflow, Ray. Loopback only.

Ceph's S3 gateway is in tests/ceph.py.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg2

ROOT = Path(__file__).resolve().parent.parent
DATABASES = ("prefect", "mlflow")
START_S = 300
RAY_STARTS = 5
"""Ray gives up after 30 s of its own, which a busy machine may need."""


def missing_postgres() -> str | None:
    """Why there is no PostgreSQL server here, None where there is."""
    return None if _programs() else "no PostgreSQL server: apt-get install postgresql"


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """user:password@host:port of a server with the databases of Prefect and MLflow."""
    programs, port, password = _programs(), free_port(), secrets.token_hex(8)
    is_root = os.getuid() == 0  # as which PostgreSQL refuses to run
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if is_root else []
    with tempfile.TemporaryDirectory(prefix="dealrec-postgres-") as name:  # where its user may go
        data, key = f"{name}/data", Path(name) / "password"
        key.write_text(password)
        for owned in (name, key) if is_root else ():
            shutil.chown(owned, "postgres")
        setup = [f"{programs}/initdb", "-D", data, "-U", "dealrec", "--auth=scram-sha-256", f"--pwfile={key}"]
        subprocess.run([*as_user, *setup, "--no-sync"], check=True, capture_output=True, cwd=name)
        options = ["-p", str(port), "-k", name, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        command = [*as_user, f"{programs}/postgres", "-D", data, *options]
        with process(command, folder / "postgres.log", stop=signal.SIGINT):
            _wait_for(port)
            _make_databases(port, password)
            yield f"dealrec:{password}@127.0.0.1:{port}"


@contextmanager
def prefect(folder: Path, database: str | None = None) -> Iterator[str]:
    """The API's address of a server on that PostgreSQL, on SQLite when None."""
    port = free_port()
    environment = {"PREFECT_HOME": str(folder / f"prefect-{port}"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    if database:
        environment["PREFECT_API_DATABASE_CONNECTION_URL"] = f"postgresql+asyncpg://{database}/prefect"
    command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with process([sys.executable, "-m", *command], folder / f"prefect-{port}.log", environment):
        _wait_for(port)
        yield f"http://127.0.0.1:{port}/api"


@contextmanager
def mlflow(folder: Path, database: str, artifacts: str) -> Iterator[str]:
    """The address of a server on that PostgreSQL with its artifacts in a bucket."""
    port = free_port()
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stores = ["--backend-store-uri", f"postgresql+psycopg2://{database}/mlflow", "--artifacts-destination", artifacts]
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with process([sys.executable, "-m", *command, *stores], folder / "mlflow.log", environment):
        _wait_for(port)
        yield f"http://127.0.0.1:{port}"


@contextmanager
def ray(folder: Path, environment: Mapping[str, str], *, cpus: int = 2) -> Iterator[str]:
    """The address of a cluster of one machine, reached as a distant one is; RAY_AUTH_MODE and RAY_AUTH_TOKEN are given."""
    client = free_port()
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--include-dashboard=false"]
    where = [f"--port={free_port()}", f"--ray-client-server-port={client}"]
    size = [f"--num-cpus={cpus}", f"--object-store-memory={200 * 2**20}"]
    quiet = {**environment, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}
    quiet["RAY_worker_niceness"] = "0"  # by default 15: beside other tests the workers would starve
    log = folder / "ray.log"
    for _ in range(RAY_STARTS):
        with process([*command, *where, *size], log, quiet) as head:
            while "--block" not in log.read_text() and head.poll() is None:  # said once the node is there
                time.sleep(0.1)
            if head.poll() is None:
                yield f"ray://127.0.0.1:{client}"
                return
    raise TimeoutError(f"no Ray cluster after {RAY_STARTS} starts; see {log}")


@contextmanager
def process(
    command: list[str], log: Path, environment: Mapping[str, str] | None = None, *, stop: int = signal.SIGTERM
) -> Iterator[subprocess.Popen[bytes]]:
    """A process, with what it starts, until the block ends."""
    with log.open("w") as output:
        running = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            env={**os.environ, **(environment or {})},
            cwd=ROOT,
            start_new_session=True,
        )
        try:
            yield running
        finally:
            running.send_signal(stop)
            try:
                running.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)  # a session of its own: nothing else is in the group
                running.wait()


def count_rows(server: str, database: str, table: str) -> int:
    """Rows of a table on that PostgreSQL."""
    connection = psycopg2.connect(f"postgresql://{server}/{database}")
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")
        (found,) = cursor.fetchone()
    connection.close()
    return int(found)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _programs() -> Path | None:
    """The folder of the newest PostgreSQL's programs."""
    on_path = shutil.which("initdb")
    found = [Path(on_path).parent] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return found[-1] if found else None


def _wait_for(port: int) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"no answer on port {port} in {START_S} s")


def _make_databases(port: int, password: str) -> None:
    for _ in range(100):
        try:
            connection = psycopg2.connect(f"postgresql://dealrec:{password}@127.0.0.1:{port}/postgres")
            break
        except psycopg2.OperationalError:  # it listens before it takes anyone in
            time.sleep(0.1)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for name in DATABASES:
            cursor.execute(f"CREATE DATABASE {name}")
    connection.close()
