"""Loses the answers to commits on an S3-compatible server until so many are lost, and looks for files and rows that went with them.

`python tests/faults/lost_answers.py [1000] [SECONDS]` ingests file after file into new lakes behind the proxy of tests/lossy.py, which
cuts the connection after the store has the commit. It prints the counts and ends with 1 where a file or a row is missing or doubled.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from datetime import date
from pathlib import Path

import s3fs

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dealrec_core.ingest import interactions
from dealrec_core.lake import Lake, sums
from dealrec_core.settings.sources import InteractionSource, SourcesConfig
from tests import lossy

FILES = 5
"""Raw files of a lake, each taken by an ingest of its own."""
NEW_YEAR = 1767225600
TABLES = ("interactions", "files", "quarantine")
KEYS = {"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


def serve() -> str:
    """Starts the mock store and the proxy before it; both end with this process's own end. Returns the proxy's address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    PROCESSES.append(
        subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], **quiet)
    )
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    command = [sys.executable, lossy.__file__, f"http://127.0.0.1:{port}"]
    proxy = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    PROCESSES.append(proxy)
    assert proxy.stdout is not None
    address = proxy.stdout.readline().strip()
    threading.Thread(target=lambda: LOST.extend(proxy.stdout), daemon=True).start()
    return address


PROCESSES: list[subprocess.Popen] = []
LOST: list[str] = []
"""The path of every commit whose answer was lost."""


def faults_of_a_lake(number: int) -> list[str]:
    """Ingests the files of a lake one after the other, and says what is not as it must be."""
    store, name = s3fs.S3FileSystem(endpoint_url=os.environ["AWS_ENDPOINT_URL"]), f"lake-{number}"
    store.mkdir(name)
    source = InteractionSource(files=["*.csv"])
    config = SourcesConfig(root=f"s3://{name}/raw", interactions=source, max_bad_fraction=0.5)
    lake = Lake(f"s3://{name}/lake")
    for file in range(FILES):
        rows = [f"{user},{file},{NEW_YEAR}" for user in ("a", "b", "")]
        store.pipe_file(f"{name}/raw/{file}.csv", "\n".join(["user_id,item_id,timestamp", *rows, ""]).encode())
        report = interactions.ingest(lake, config, through=date(2026, 1, 9), partition="day")
        if (report.inserted, report.quarantined) != (2, 1):
            return [f"lake {number}, file {file}: {report}"]
    gone = [
        path
        for table in TABLES
        for path in sums.data_files(lake, table, lake.version(table))
        if not lake.exists_path(path)
    ]
    pairs = sorted(lake.scan("interactions").select("user_id", "item_id").collect().rows())
    expected = sorted((user, str(file)) for user in ("a", "b") for file in range(FILES))
    counts = [lake.scan(table).collect().height for table in TABLES[1:]]
    wrong = [] if pairs == expected and counts == [FILES, FILES] else [f"lake {number}: rows {pairs}, {counts}"]
    return [*(f"lake {number}: {path} is gone" for path in gone), *wrong]


def main(answers: int, seconds: float) -> int:
    """Goes on until so many answers are lost, or the time is over."""
    os.environ |= {**KEYS, "AWS_DEFAULT_REGION": KEYS["AWS_REGION"], "AWS_ENDPOINT_URL": serve()}
    faults, lakes, end = [], 0, time.monotonic() + seconds
    try:
        while len(LOST) < answers and time.monotonic() < end:
            faults += faults_of_a_lake(lakes)
            lakes += 1
    finally:
        for process in PROCESSES:
            process.kill()
    sys.stdout.write(json.dumps({"lost answers": len(LOST), "lakes": lakes, "faults": faults}) + "\n")
    return 1 if faults else 0


if __name__ == "__main__":
    given = [float(word) for word in sys.argv[1:]]
    sys.exit(main(int([*given, 1000][0]), [*given, 1000, 3600][1] if len(given) > 1 else 3600))
