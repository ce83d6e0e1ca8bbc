"""Puts a year of a wrong filter right: `python benchmarks/putting_right.py [--files 365] [--rows 1000000]`.

One file a day is ingested under a filter that turns most rows down and with a wrong column of ratings, and a file of items with a
wrong column of titles. One command takes all files again under the right settings. The first ingest of items and that command are
killed (SIGKILL) before and after each of their commits, and run again. The tables must then be those of a lake whose settings were
right from the start. Writes benchmarks/results/putting_right.json; exit 1 on any difference.
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

from dealrec_core.ingest import again, interactions, item_files
from dealrec_core.lake import Lake, commit, draft
from dealrec_core.settings.sources import InteractionSource, ItemSource, SourcesConfig

FIRST = date(2026, 1, 1)
WRONG = {"rating": "price", "filter": "rating >= 9"}
RIGHT = {"rating": "stars", "filter": "rating >= 2"}
TITLES = {"wrong": "code", "right": "name"}
TABLES = ("interactions", "items", "quarantine", "files")


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
    ingest_items(folder, "right")
    kills, seconds["items"], ends = _until_done(ingest_items, folder, "wrong")
    more, seconds["taken again"], end = _until_done(correct, folder, "wrong", last)
    seconds = {name: round(value, 2) for name, value in seconds.items()}
    differences = [f"the last run ended with {code}" for code in (ends, end) if code]
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
        "kills": kills + more,
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
    names = [f"{number},c{number},Title {number}" for number in range(5000)]
    (folder / "titles.items").write_text("\n".join(["item_id,code,name", *names, ",c,no id", ""]))


def config(folder: Path, mapping: dict[str, str], title: str = "name") -> SourcesConfig:
    source = InteractionSource(files=["*.csv"], **mapping)  # type: ignore[arg-type]
    return SourcesConfig(
        root=str(folder / "raw"), interactions=source, items=ItemSource(files=["*.items"], title=title)
    )


def ingest(folder: Path, name: str, mapping: dict[str, str], last: date) -> None:
    interactions.ingest(Lake(str(folder / name)), config(folder, mapping), through=last, partition="day")


def ingest_items(folder: Path, name: str) -> None:
    """Ingests the items; in the wrong lake with another column for their titles."""
    item_files.ingest_items(Lake(str(folder / name)), config(folder, RIGHT, TITLES[name]))


def correct(folder: Path, name: str, last: date) -> None:
    """Takes all files again under the right settings."""
    again.again(Lake(str(folder / name)), config(folder, RIGHT), ["**"], through=last, partition="day")


def _until_done(function: Any, *arguments: Any) -> tuple[int, float, int]:
    """Kills a function at its first commit, its second, and so on; returns the kills, and the last run's seconds and exit code."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.putting_right"])
    kills = 0
    while True:
        process = context.Process(target=_dying, args=(kills, function, *arguments))
        seconds = _timed(_run, process)
        if process.exitcode != -signal.SIGKILL:
            return kills, seconds, process.exitcode or 0
        kills += 1


def _dying(survived: int, function: Any, *arguments: Any) -> None:
    """Calls a function; the process kills itself before (even numbers) or after (odd ones) the commit of this number."""
    moment = 0

    def killing(*arguments: Any, **options: Any) -> int:
        nonlocal moment
        _kill(moment == survived)
        version = commit.commit(*arguments, **options)
        _kill(moment + 1 == survived)
        moment += 2
        return version

    draft.commit = killing
    function(*arguments)


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
