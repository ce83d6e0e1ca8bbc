"""Puts a year of a wrong filter right: `python benchmarks/putting_right.py [--files 365] [--rows 1000000]`.

One file a day is ingested under a filter that turns most rows down and with a wrong column of ratings. One command takes all files
again under the right settings; it is killed (SIGKILL) before and after each of its commits, and run again. The tables must then be
those of a lake whose settings were right from the start. Writes benchmarks/results/putting_right.json; exit 1 on any difference.
"""

import argparse
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dealrec_core.ingest import again, interactions
from dealrec_core.lake import Lake, commit, draft
from dealrec_core.settings.sources import InteractionSource, SourcesConfig

FIRST = date(2026, 1, 1)
WRONG = {"rating": "price", "filter": "rating >= 9"}
RIGHT = {"rating": "stars", "filter": "rating >= 2"}
TABLES = ("interactions", "quarantine", "files")


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        result = measure(Path(scratch), files=options.files, rows=options.rows)
    from benchmarks.machine import machine  # imports torch, which the children do not need

    result["command"] = f"python benchmarks/putting_right.py --files {options.files} --rows {options.rows}"
    result["machine"] = machine()
    print(json.dumps(result, indent=1))
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(1 if result["differences"] else 0)


def measure(folder: Path, *, files: int, rows: int) -> dict[str, Any]:
    """Returns times, counts, and what differs from a lake that was right from the start: nothing if all is well."""
    write(folder / "raw", files=files, rows=rows)
    last = FIRST + timedelta(days=files)
    seconds = {"wrong ingest": _timed(ingest, folder, "wrong", WRONG, last), "right ingest": 0.0}
    seconds["right ingest"] = _timed(ingest, folder, "right", RIGHT, last)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.putting_right"])
    kills = 0
    while True:  # one commit further each time, until the command comes to its end
        process = context.Process(target=correct, args=(folder, "wrong", last, kills))
        seconds["taken again"] = _timed(_run, process)
        if process.exitcode != -signal.SIGKILL:
            break
        kills += 1
    seconds = {name: round(value, 2) for name, value in seconds.items()}
    differences = [] if process.exitcode == 0 else [f"the last run ended with {process.exitcode}"]
    lakes = [Lake(str(folder / name)) for name in ("wrong", "right")]
    for table in TABLES:
        wrong, right = (lake.scan(table).collect().sort(pl.all()) for lake in lakes)
        if not wrong.equals(right):
            differences.append(f"{table}: {wrong.height} rows for {right.height}, or other values")
    landed = lakes[1].scan("interactions").select(pl.len()).collect().item()
    return {
        "files": files,
        "rows": rows,
        "rows landed": landed,
        "kills": kills,
        "seconds": seconds,
        "differences": differences,
    }


def write(folder: Path, *, files: int, rows: int) -> None:
    """Writes one file a day; a hundredth of the rows has no item, and each file begins with the last rows of the one before."""
    folder.mkdir()
    random = np.random.default_rng(0)
    each = rows // files
    before = pl.DataFrame()
    for day in range(files):
        midnight = 86_400 * ((FIRST - date(1970, 1, 1)).days + day)
        frame = pl.DataFrame(
            {
                "user_id": random.integers(0, max(each, 1), each).astype(str),
                "item_id": np.where(random.random(each) < 0.01, "", random.integers(0, 5000, each).astype(str)),
                "timestamp": midnight + np.sort(random.integers(0, 86_400, each)),
                "stars": random.integers(1, 6, each),
                "price": random.integers(1, 11, each),
            }
        )
        pl.concat([before, frame]).write_csv(folder / f"{FIRST + timedelta(days=day)}.csv")
        before = frame.tail(2)


def config(folder: Path, mapping: dict[str, str]) -> SourcesConfig:
    return SourcesConfig(root=str(folder / "raw"), interactions=InteractionSource(files=["*.csv"], **mapping))  # type: ignore[arg-type]


def ingest(folder: Path, name: str, mapping: dict[str, str], last: date) -> None:
    interactions.ingest(Lake(str(folder / name)), config(folder, mapping), through=last, partition="day")


def correct(folder: Path, name: str, last: date, survived: int) -> None:
    """Takes all files again; the process kills itself before (even numbers) or after (odd ones) the commit of this number."""
    moment = 0

    def killing(*arguments: Any, **options: Any) -> int:
        nonlocal moment
        _kill(moment == survived)
        version = commit.commit(*arguments, **options)
        _kill(moment + 1 == survived)
        moment += 2
        return version

    draft.commit = killing
    again.again(Lake(str(folder / name)), config(folder, RIGHT), ["**"], through=last, partition="day")


def _kill(is_due: bool) -> None:
    if is_due:
        os.kill(os.getpid(), signal.SIGKILL)


def _run(process: Any) -> None:
    process.start()
    process.join()


def _timed(function: Any, *arguments: Any) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=365)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--scratch", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "putting_right.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
