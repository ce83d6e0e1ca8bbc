"""Measures what waiting for the disk costs an ingest: `python benchmarks/syncing.py [--rows 20000000] [--repeats 3]`.

One log is ingested into new lakes in turns, with fsync and with one that does nothing, each time in a process of its own. Writes
benchmarks/results/syncing.json.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import lake as large
from benchmarks import town as towns
from benchmarks.machine import machine
from dealrec_core.ingest import interactions
from dealrec_core.lake import Lake
from dealrec_core.settings.sources import SourcesConfig

RESULTS = towns.ROOT / "benchmarks" / "results" / "syncing.json"
BOUND = 1.15


def main() -> None:
    """Measures, prints and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", help="on the disk that counts; a temporary one when left out")
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {"with syncing": [], "without": []}
    with towns.folder(options.folder) as folder:
        large.write_log(folder / "raw" / "log.csv", options.rows, first_day=0, days=large.DAYS)
        for _ in range(options.repeats):
            for name, found in seconds.items():
                process = multiprocessing.get_context("spawn").Process(
                    target=_ingest, args=(folder, name == "with syncing")
                )
                process.start()
                process.join()
                found.append(float((folder / "seconds").read_text()))
                print(f"{name}: {found[-1]:.2f} s", flush=True)
    best = {name: min(found) for name, found in seconds.items()}
    result = {
        "rows": options.rows,
        "seconds": seconds,
        "with / without": round(best["with syncing"] / best["without"], 3),
        "bound": BOUND,
        "machine": machine(),
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


def _nothing(fd: Any) -> None:
    """Takes the place of `os.fsync`: it leaves the writing to the system."""


def _ingest(folder: Path, is_synced: bool) -> None:
    shutil.rmtree(folder / "lake", ignore_errors=True)
    os.sync()  # what an earlier turn has left to be written is not this one's cost
    if not is_synced:
        os.fsync = _nothing
    config = SourcesConfig(root=str(folder / "raw"), interactions=large.SOURCE)
    started = time.perf_counter()
    report = interactions.ingest(Lake(str(folder / "lake")), config, through=date(2027, 1, 1), partition="day")
    seconds = time.perf_counter() - started
    assert report.inserted > 0
    (folder / "seconds").write_text(f"{seconds:.2f}")


if __name__ == "__main__":
    main()
