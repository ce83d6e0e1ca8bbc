"""Whole nights over logs that grow tenfold, stage by stage: `python benchmarks/scale.py --sizes 10000 100000 1000000`.

A user has ten interactions and ten users have one item, as in a log of 10 million rows with 1 million users and 100,000 items. Every size
has a lake of its own, two nights and the demo's small models: the first night takes the whole log, the second one 1% new rows. The
method is the paper's, which scores influence and effort, so that no stage is left out. Each night is a process of its own. At the
start and the end of every stage it notes its processor time and its reads and writes (of the system's calls, cached or not), and the
peak of its memory in between. Writes benchmarks/results/scale.json with the slope of every stage: log(time) over log(rows).
"""

import argparse
import json
import math
import resource
import time
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks import town
from benchmarks.machine import machine
from dealrec_core.ingest import synthetic
from dealrec_core.lake import Lake
from dealrec_core.lake.nights import Night, Snapshot, nights

RESULTS = town.ROOT / "benchmarks" / "results" / "scale.json"
SIZES = [10_000, 100_000, 1_000_000]
START, DAYS = synthetic.SyntheticConfig().start, 60
EVENTS_OF_A_USER, USERS_OF_AN_ITEM = 10, 10
CLUSTER = 50
"""Items that one kind of user takes."""
FILES = 10
SETTINGS = ["coreset.method=dealrec", "effort.share=0.05"]
"""Effort of all samples takes hours at a million of them. Its time is that of a sample times their number."""
DAY_S = 86_400
FIRST, MORE, CPU = "first night", "1% new rows", "CPU seconds"


def main() -> None:
    """Runs two nights of every size, prints the table and writes the results after each size."""
    options = _options()
    results = json.loads(options.results.read_text()) if options.results.exists() else {"sizes": {}}
    with town.folder(options.folder) as folder, town.prefect_server(folder):
        for rows in options.sizes:
            place = folder / f"rows-{rows}"
            found = results["sizes"][str(rows)] = {"machine": machine()}
            for number, (name, write) in enumerate({FIRST: write_log, MORE: write_news}.items()):
                town.in_child(write, place / "data", rows)  # polars starts threads, which no fork survives
                town.in_child(_night, place, number, options.set)
                found[name] = json.loads((place / f"night-{number}.json").read_text())
                results["slopes"] = slopes(results["sizes"])
                options.results.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            print(table(results), flush=True)


def write_log(folder: Path, rows: int) -> None:
    """The interactions of the first night, in files in order of time, and the titles of all items."""
    frame = first_log(rows)
    (folder / "log").mkdir(parents=True)
    for number, part in enumerate(frame.iter_slices(math.ceil(len(frame) / FILES))):
        part.write_parquet(folder / "log" / f"first-{number}.parquet")
    _write_items(folder / "items" / "all.csv", _counts(rows)[1])


def first_log(rows: int) -> pl.DataFrame:
    """The interactions of the first night in order of time."""
    random, (count, items) = np.random.default_rng(0), _counts(rows)
    users = random.permutation(np.repeat(np.arange(count), EVENTS_OF_A_USER))
    times = np.sort(random.random(len(users)))
    return _frame(users, _taken(users, times, items, random), times * DAYS)


def write_news(folder: Path, rows: int) -> None:
    """One more day with 1% of the rows, by users who are there already."""
    random, (all_users, items) = np.random.default_rng(1), _counts(rows)
    users = random.integers(all_users, size=rows // 100)
    times = np.sort(random.random(len(users)))
    frame = _frame(users, _taken(users, np.ones(len(users)), items, random), DAYS + times)
    frame.write_parquet(folder / "log" / "next.parquet")


def _counts(rows: int) -> tuple[int, int]:
    users = rows // EVENTS_OF_A_USER
    return users, users // USERS_OF_AN_ITEM


def _taken(users: np.ndarray, times: np.ndarray, items: int, random: np.random.Generator) -> np.ndarray:
    """The item of each event: half of the time the one after the user's last, else one that came out lately in the user's cluster.

    At first three in ten items of a cluster are out, at last all of them, so that the log drifts.
    """
    order = np.lexsort((times, users))
    clusters = max(items // CLUSTER, 1)
    of_user = users[order] * 7919 % clusters
    out = np.maximum((CLUSTER * (0.3 + 0.7 * times[order])).astype(int), 1)
    lately = np.maximum(out - 1 - random.exponential(CLUSTER / 6, len(users)).astype(int), 0)
    begins = np.concatenate([[True], np.diff(users[order]) != 0]) | (random.random(len(users)) < 0.5)
    starts = np.flatnonzero(begins)
    run = np.cumsum(begins) - 1
    places = (lately[starts][run] + np.arange(len(users)) - starts[run]) % CLUSTER
    taken = np.empty(len(users), dtype=np.int64)
    taken[order] = (of_user + clusters * places) % items
    return taken


def _frame(users: np.ndarray, items: np.ndarray, days: np.ndarray) -> pl.DataFrame:
    begin = int(time.mktime((START - timedelta(days=DAYS - 1)).timetuple()))
    return pl.DataFrame(
        {
            "userId": pl.Series(users).cast(pl.String),
            "itemId": pl.Series(items).cast(pl.String),
            "rating": np.full(len(users), 5),
            "timestamp": begin + (days * DAY_S).astype(np.int64),
        }
    )


def _write_items(path: Path, items: int) -> None:
    path.parent.mkdir(parents=True)
    names = [f"{first} {second}" for first in synthetic.FIRST for second in synthetic.SECOND]
    titles = [f"{names[item % len(names)]} {item // len(names) + 1}" for item in range(items)]
    kinds = [synthetic.CATEGORIES[item % len(synthetic.CATEGORIES)] for item in range(items)]
    pl.DataFrame({"itemId": range(items), "title": titles, "categories": kinds}).write_csv(path)


class Meter:
    """Notes what each stage of this process takes, in a file that is written after every stage.

    It is a `tasks.progress.Watcher` by its methods: Prefect, which that module imports, must find its server's address set.
    """

    def __init__(self, path: Path) -> None:
        self.stages: dict[str, dict[str, Any]] = {}
        self._path = path
        self._before: dict[str, float] = {}

    def begins(self, night: Night, stage: str) -> None:
        """Starts a new peak of memory."""
        Path("/proc/self/clear_refs").write_text("5")
        self._before = _used()

    def moves(self, done: int, total: int, unit: str) -> None:
        """Does nothing."""

    def ends(self, record: Snapshot) -> None:
        """Keeps the differences."""
        after = _used()
        taken = {name: round(after[name] - self._before[name], 3) for name in after}
        peak = int(_fields("/proc/self/status")["VmHWM"].split()[0]) / 2**20
        self.stages[record.stage] = {
            "seconds": record.seconds,
            **taken,
            "peak GiB": round(peak, 3),
            "rows": record.rows,
            "facts": record.facts,
        }
        self._path.write_text(json.dumps({"stages": self.stages}))


def _used() -> dict[str, float]:
    usage, io = resource.getrusage(resource.RUSAGE_SELF), _fields("/proc/self/io")
    read, written = int(io["rchar"]), int(io["wchar"])
    return {CPU: usage.ru_utime + usage.ru_stime, "MB read": read / 1e6, "MB written": written / 1e6}


def _fields(path: str) -> dict[str, str]:
    pairs = (line.split(":", 1) for line in Path(path).read_text().splitlines())
    return {name: value.strip() for name, value in pairs}


def _night(place: Path, number: int, more: list[str]) -> None:
    from flows.nightly import nightly
    from tasks.nights import NightRequest
    from tasks.progress import watched_by

    overrides = [*town.overrides(place.parent, place.name, size=[]), f"sources.root={place}/data", *SETTINGS, *more]
    meter: Any = Meter(place / f"night-{number}.json")
    began = time.monotonic()
    with watched_by(meter):
        nightly(NightRequest(day=START + timedelta(days=number), config=town.DEMO, overrides=overrides))
    lake = Lake(f"{place}/lake")
    found = {
        "night": nights(lake)[-1].name,
        "seconds": round(time.monotonic() - began, 1),
        CPU: round(_used()[CPU], 1),
        "peak GiB": max(stage["peak GiB"] for stage in meter.stages.values()),
        "lake MB": round(sum(path.stat().st_size for path in Path(lake.root).rglob("*") if path.is_file()) / 1e6, 1),
        "stages": meter.stages,
    }
    (place / f"night-{number}.json").write_text(json.dumps(found))


def slopes(sizes: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The slope of each stage's processor time between neighbouring sizes, in the first nights."""
    found: dict[str, dict[str, float]] = {}
    for few, many in pairwise(sorted(sizes, key=int)):
        before, after = (sizes[size][FIRST]["stages"] for size in (few, many))
        for stage in after.keys() & before.keys():
            ratio = max(after[stage][CPU], 0.01) / max(before[stage][CPU], 0.01)
            slope = math.log(ratio) / math.log(int(many) / int(few))
            found.setdefault(stage, {})[f"{few} to {many}"] = round(slope, 2)
    return found


def table(results: dict[str, Any]) -> str:
    """The table of docs/scale.md: each stage's processor seconds at every size, its last slope, and what it takes at the largest one.

    A night that was stopped has fewer stages. The second night is that of the largest log that has one.
    """
    sizes = dict(sorted(results["sizes"].items(), key=lambda pair: int(pair[0])))
    second = [rows for rows in sizes if MORE in sizes[rows]][-1]
    numbers = [f"{int(rows):,} rows" for rows in sizes]
    names = ["stage", *numbers, "slope", "peak GiB", "MB read", "MB written", f"1% more than {int(second):,}"]
    lines = [f"| {' | '.join(names)} |", "|---" + "|---:" * (len(names) - 1) + "|"]
    for stage, more in sizes[second][MORE]["stages"].items():
        taken = [size[FIRST]["stages"].get(stage) for size in sizes.values()]
        largest = [stages for stages in taken if stages][-1]
        cells = ["" if stages is None else f"{stages[CPU]:,.1f}" for stages in taken]
        cells.append(f"{list(results['slopes'][stage].values())[-1]:.2f}")
        cells += [f"{largest['peak GiB']:.2f}", f"{largest['MB read']:,.0f}", f"{largest['MB written']:,.0f}"]
        lines.append(f"| {stage.replace('_', ' ')} | {' | '.join([*cells, f'{more[CPU]:,.1f}'])} |")
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="10000000 takes about a day on one core")
    parser.add_argument("--set", nargs="*", default=[], help="more settings for every night")
    parser.add_argument("--folder", help="keeps lakes and server there")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
