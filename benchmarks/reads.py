"""Bytes that a night reads from its lake, stage by stage, in two checkouts: `python benchmarks/reads.py --as after`.

A first night over a synthetic log runs as a user runs it, with tiny models. Its lake is a bucket of moto's S3 server, so that every
read, by polars, delta-rs or Python, is a request, of which the server notes the bytes. A request belongs to the stage that ended next.
The bytes are set against the size of the tables that the stage needs: their live data files whole, and the chunks of the needed
columns alone. Models are read once and then from the cache of the machine. Writes benchmarks/results/reads.json.
"""

import argparse
import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import s3fs
from deltalake import DeltaTable

sys.path.append(str(Path(__file__).resolve().parent.parent))  # last: a night finds its own checkout first

from benchmarks.machine import machine

RESULTS = Path(__file__).parent / "results" / "reads.json"
BUCKET, LAKE = "dealrec", "dealrec/lake"
ACCESS = {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "key"}
FIRST_S, DAY = 1_735_689_600, "2026-01-01"  # the log begins on 2025-01-01 and ends before the night's day
USERS, ITEMS, CLUSTERS, FILES, DAYS = 100_000, 20_000, 100, 10, 360
WORDS = ("red", "old", "lost", "north", "quiet", "iron", "river", "night", "garden", "winter")
SETTINGS = [
    *("run.device=cpu", "lake.partition=month", 'samples={mode="last", history_length=10}'),
    "surrogate={width=8, epochs=1}",
    'influence={solver="identity", loss="sampled", negatives=64}',
    *("effort.shard_samples=10000", "coreset.count=64", "recommender.titles=2", "fine_tune.epochs=1"),
    "language_model={width=32, layers=1, vocabulary=512, steps=5}",
]
"""Models as small as the settings let them be: they have no part in what is read."""
OLDER = [
    *SETTINGS[:3],
    "surrogate={width=8, layers=1, heads=1, history_length=10, epochs=1, negatives=64, validation_samples=500}",
    SETTINGS[4],
    *("effort.shard_samples=10000", "coreset.count=64", "recommender.history_length=2"),
    "language_model={width=32, layers=1, heads=1, vocabulary=512, steps=5}",
    'fine_tune={epochs=1, judge="loss", validation_examples=32}',
]
"""The same for the tree before the house step, where more could be set."""

CATALOGUE = {"interactions": "item_id timestamp", "items": "item_id title"}
SAMPLES = {"samples": "sample_id user_id item_id timestamp history"}
EVENTS = {"interactions": "event_id user_id item_id timestamp"}
NEEDS: dict[str, dict[str, str]] = {
    "ingest": {},
    "samples": {**EVENTS, "samples": "user_id timestamp"},  # it counts the slices of what it has written
    "surrogate": {**SAMPLES, **CATALOGUE},
    "influence": {**SAMPLES, "surrogate": ""},
    "base_model": {**SAMPLES, **CATALOGUE},
    "effort": {**SAMPLES, **CATALOGUE, "base_model": ""},
    "coreset": {**SAMPLES, **CATALOGUE, "influence": "", "effort": "", "surrogate": ""},
    "fine_tune": {**SAMPLES, **CATALOGUE, "coreset": "", "base_model": ""},
    "evaluation": {**EVENTS, "items": "item_id title", "surrogate": "", "fine_tune": ""},
    "refit": {**SAMPLES, **EVENTS, "items": "item_id title", "coreset": "", "base_model": "", "fine_tune": ""},
    "promotion": {**EVENTS, "evaluation": "", "coreset": "", "surrogate": "", "fine_tune": ""},
}
"""Tables that each stage of a first night needs, and columns of them; the result of a stage (its table or folder) whole."""
REQUEST = ["time", "method", "path", "bytes"]
RENAMED = {"verdict": "proxy"}  # what a stage was called in the older tree


def main() -> None:
    """Runs a night of one checkout, prints the tables of both and writes the results."""
    options = _options()
    if options.serve:
        return serve(options.serve, Path(options.folder))
    if options.words:
        return night(Path(options.folder), options.words)
    settings = OLDER if options.role == "before" else SETTINGS
    folder = Path(options.folder or tempfile.mkdtemp())
    stages = measure(options.checkout.resolve(), folder, options.rows, settings)
    results = json.loads(options.results.read_text()) if options.results.exists() else {}
    results[options.role] = {"rows": options.rows, "machine": machine(), "stages": stages}
    options.results.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table(results))


def measure(checkout: Path, folder: Path, rows: int, settings: list[str]) -> dict[str, Any]:
    """A night of the checkout in the folder, over the log there or a new one: what each stage read and needed."""
    home, raw = folder / f"night-{int(time.time())}", folder / f"raw-{rows}"
    home.mkdir(parents=True)
    if not raw.exists():
        write_log(raw, rows)
    places = [f"run.home={home}", f"lake.root=s3://{LAKE}", f"sources.root={raw}"]
    places += [f"registry.tracking_uri=sqlite:///{home}/mlflow.db", f"registry.artifacts={home}/artifacts"]
    with store(home):
        environment = {**os.environ, "PYTHONPATH": str(checkout), "PREFECT_HOME": str(home / "prefect")}
        command = [sys.executable, "-P", __file__, "--folder", str(home), "nightly", "--day", DAY]
        command += [word for setting in [*settings, *places] for word in ("--set", setting)]
        subprocess.run(command, env=environment, cwd=checkout, check=True)
        return _stages(home)


def write_log(folder: Path, rows: int) -> None:
    """A log whose users stay near the items of two clusters, in parquet files in order of time, and the items' titles."""
    random = np.random.default_rng(0)
    names = np.array([f"i{number:05}" for number in range(ITEMS)])
    (folder / "log").mkdir(parents=True)
    for number, count in enumerate(np.diff(np.linspace(0, rows, FILES + 1).astype(int))):
        users = random.integers(0, USERS, count)
        clusters = (users + random.integers(0, 2, count)) % CLUSTERS
        items = clusters + CLUSTERS * (random.random(count) ** 2 * (ITEMS // CLUSTERS)).astype(int)
        seconds = (number + np.sort(random.random(count))) * DAYS * 86_400 / FILES
        frame = pl.DataFrame({"user_id": users, "item_id": names[items], "timestamp": FIRST_S + seconds.astype(int)})
        frame.write_parquet(folder / "log" / f"{number:02}.parquet")
    (folder / "items").mkdir()
    titles = [f"{WORDS[item % CLUSTERS // 10]} {WORDS[item % 10]} {item}" for item in range(ITEMS)]
    pl.DataFrame({"item_id": names, "title": titles}).write_csv(folder / "items" / "items.csv")


@contextmanager
def store(home: Path) -> Iterator[None]:
    """A bucket of a new S3 server for as long as the block; the environment names it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ALLOW_HTTP": "true", **ACCESS}
    with subprocess.Popen([sys.executable, __file__, "--serve", str(port), "--folder", str(home)]) as server:
        try:
            while socket.socket().connect_ex(("127.0.0.1", port)):
                time.sleep(0.1)
            _files().mkdir(BUCKET)
            yield
        finally:
            server.kill()


def serve(port: int, home: Path) -> None:
    """Moto's server; writes time, method, path and body bytes of every answered request to the file `requests`."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import run_simple

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app, turn = DomainDispatcherApplication(create_backend_app), threading.Lock()
    with (home / "requests").open("w", buffering=1) as log:

        def counted(request: dict[str, Any], start_response: Any) -> list[bytes]:
            body = b"".join(app(request, start_response))
            with turn:
                log.write(f"{time.time()} {request['REQUEST_METHOD']} {request['PATH_INFO']} {len(body)}\n")
            return [body]

        run_simple("127.0.0.1", port, counted, threaded=True)


def night(home: Path, words: list[str]) -> None:
    """The `dealrec` command of the checkout on the path; notes when each stage was recorded and when it was shown."""
    from flows import cli
    from tasks import stage as stages
    from tasks.nights import NightRequest

    def noting(function: Any) -> Any:
        def run(*given: Any, **named: Any) -> Any:
            result = function(*given, **named)
            stage = next(value.stage for value in [*given, *named.values()] if hasattr(value, "stage"))
            with (home / "marks").open("a") as file:
                file.write(f"{time.time()} {stage}\n")
            return result

        return run

    for owner, name in ((stages.Night, "record"), (stages, "show_stage")):
        setattr(owner, name, noting(getattr(owner, name)))
    section = "evaluate" if "evaluate" in type(NightRequest().settings()).model_fields else "evaluation"
    sys.argv = ["dealrec", *words, "--set", f"{section}.users=50"]
    cli.main()


def _stages(home: Path) -> dict[str, Any]:
    """Reads, needs and seconds of every stage, in order of their ends; what came after the last one is `report`."""
    marks = pl.read_csv(home / "marks", separator=" ", has_header=False, new_columns=["end", "stage"])
    ends = marks.group_by(pl.col("stage").replace(RENAMED)).agg(pl.col("end").max()).sort("end")
    log = pl.read_csv(home / "requests", separator=" ", has_header=False, new_columns=REQUEST)
    requests = log.join_asof(ends, left_on="time", right_on="end", strategy="forward").fill_null("report")
    is_read = (pl.col("method") == "GET") & pl.col("path").str.starts_with(f"/{LAKE}/")  # others list the bucket
    place = pl.col("path").str.split("/").list.get(3, null_on_oob=True).alias("table")
    paths = {Path(path).stem: path for path in _files().glob(f"{LAKE}/nights/*/stages/*.json")}
    records = {RENAMED.get(name, name): json.loads(_files().cat_file(path)) for name, path in paths.items()}
    measured = {}
    for stage in [*ends["stage"], "report"]:
        in_stage = requests.filter(stage=stage)
        tables = in_stage.filter(is_read).group_by(place).agg(pl.col("bytes").sum()).sort("bytes", descending=True)
        sizes = [_size(records, *need) for need in NEEDS.get(stage, {}).items()]
        measured[stage] = {
            "read": int(tables["bytes"].sum()),
            "needed": sum(whole for whole, _ in sizes),
            "needed columns": sum(part for _, part in sizes),
            "requests": len(in_stage),
            "seconds": records.get(stage, {}).get("seconds"),
            "read by table": dict(tables.iter_rows()),
        }
    return measured


def _files() -> s3fs.S3FileSystem:
    return s3fs.S3FileSystem(endpoint_url=os.environ["AWS_ENDPOINT_URL"], use_listings_cache=False)


def _size(records: dict[str, Any], source: str, columns: str) -> tuple[int, int]:
    """Bytes of a table, or of what a stage left, as the night left it; and of the needed columns (all where none is named)."""
    record = records[{"interactions": "ingest", "items": "ingest"}.get(source, source)]
    if record["table"] is None:
        return (_files().du(f"{LAKE}/{record['path']}"),) * 2
    version = record["facts"]["items version"] if source == "items" else record["version"]
    uri = f"{LAKE}/{source if source == 'items' else record['table']}"
    adds = pl.DataFrame(DeltaTable(f"s3://{uri}", version=version).get_add_actions(flatten=True))
    whole = int(adds["size_bytes"].sum())
    footers = [pq.read_metadata(_files().open(f"{uri}/{path}")) for path in adds["path"] if columns]
    groups = [footer.row_group(number) for footer in footers for number in range(footer.num_row_groups)]
    chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
    part = sum(c.total_compressed_size for c in chunks if c.path_in_schema.split(".")[0] in columns.split())
    return whole, part or whole


def table(results: dict[str, Any]) -> str:
    """The results as Markdown: MB, ratio of what was read to what is needed, requests and seconds, before and after."""
    roles = [role for role in ("before", "after") if role in results]
    heads = [f"{role}: {what}" for role in roles for what in ("needed MB", "read MB", "read / needed", "requests", "s")]
    lines = [f"| stage | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
    for stage in results[roles[0]]["stages"]:
        cells = [cell for role in roles for cell in _cells(**results[role]["stages"][stage])]
        lines.append(f"| {stage} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(*, read: int, needed: int, requests: int, seconds: float | None, **_: Any) -> list[str]:
    ratio, time_s = f"{read / needed:.2f}" if needed else "-", "-" if seconds is None else f"{seconds:.0f}"
    return [f"{needed / 1e6:.1f}", f"{read / 1e6:.1f}", ratio, str(requests), time_s]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkout", type=Path, default=Path(), help="the tree whose night is measured")
    parser.add_argument("--as", dest="role", choices=["before", "after"], default="after", help="name in the results")
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--folder", help="where log and night are kept; a temporary one when left out")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)  # how the script starts its server
    parser.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)  # and its night
    return parser.parse_args()


if __name__ == "__main__":
    main()
