"""kill -9 at every stage boundary and inside every stage of one night: `python benchmarks/kills.py [--kills 50] [--s3]`.

Two towns read the same log. In one, two nights run undisturbed. In the other the second night is killed (SIGKILL, no
clean-up of any kind) again and again: where a stage starts, right before and right after its writes, in the middle of
its work, and right after its record. Each start continues the same night. At the end both lakes must hold the same rows,
the same files, the same stage facts and the same registry. With --s3 both lakes are buckets of a mock of S3 (moto). Writes
benchmarks/results/kills.json, or kills_s3.json; exit 1 on any difference.
"""

import argparse
import hashlib
import json
import logging
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import town as towns
from benchmarks.town import in_child

PROMOTING = ['gate.first_beats=["popularity"]', "gate.metric=recall", "gate.depth=10", "gate.confidence=0"]
"""A gate that models of this size can pass, so that there are promotions to get wrong."""
NOT_COMPARED = {"at", "mlflow run", "resumed at step", "seconds", "taken_at"}
"""Clock times, identifiers that are drawn anew, and the fact that tells of a kill: the only things that may differ."""


@dataclass(frozen=True)
class Point:
    """Where the process is killed: in a stage, around the commit of a table or the writing of a file, or so much time in."""

    stage: str
    moment: str
    """start, N ms in, before or after TABLE or FILE, before record, recorded. Where a continued stage has that write
    behind it or less time left than the undisturbed one, it is killed before its record instead."""


def main() -> int:
    """Runs both towns, prints one line per kill and what differs, and writes the results."""
    options = _options()
    store = towns.s3_store("quiet", "killed") if options.s3 else nullcontext()
    with towns.folder(options.folder) as folder, store, towns.prefect_server(folder):
        found = run(folder, kills=options.kills, seed=options.seed, stages=options.stages)
    results = options.results or towns.ROOT / "benchmarks" / "results" / f"kills{'_s3' if options.s3 else ''}.json"
    Path(results).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({name: found[name] for name in ("kills", "by_stage", "by_moment", "attempts", "differences")}))
    return 1 if found["differences"] or found["not_hit"] else 0


def run(folder: Path, *, kills: int, seed: int, stages: list[str] | None = None) -> dict[str, Any]:
    """Both towns, the kills, and the comparison."""
    started = time.monotonic()
    for number in (0, 1):
        in_child(towns.write_day, folder, number)
        in_child(_night, folder, "quiet", number, None)
        if number == 0:
            in_child(_night, folder, "killed", 0, None)
    timeline = json.loads((folder / "quiet" / "timeline.json").read_text())
    chosen = {stage: seen for stage, seen in timeline.items() if not stages or stage in stages}
    plan = points(chosen, kills=kills, seed=seed)
    hit, missed = [], []
    for point in plan:
        if in_child(_night, folder, "killed", 1, point, may_die=True) == -signal.SIGKILL:
            hit.append(Point(**json.loads((folder / "killed" / "point.json").read_text())))
            print(f"killed {hit[-1].stage}: {hit[-1].moment} (wanted {point.moment})", flush=True)
        else:
            missed.append(point)
            print(f"NOT killed {point.stage}: {point.moment}", flush=True)
    in_child(_night, folder, "killed", 1, None)
    differences = _compare(folder)
    return {
        "kills": len(hit),
        "not_hit": [asdict(point) for point in missed],
        "attempts": len(plan) + 1,
        "by_stage": dict(Counter(point.stage for point in hit)),
        "by_moment": dict(Counter(_kind(point.moment) for point in hit)),
        "killed_at": [f"{point.stage}: {point.moment}" for point in hit],
        "compared": json.loads((folder / "compared.json").read_text()),
        "differences": differences,
        "seconds": round(time.monotonic() - started, 1),
        "machine": towns.machine(),
    }


def points(timeline: dict[str, dict[str, Any]], *, kills: int, seed: int) -> list[Point]:
    """So many points, or all there are, in the order of the night; the stages take turns until they are spent."""
    draw = random.Random(seed)
    wanted = [[Point(stage, moment) for moment in _moments(seen, draw)] for stage, seen in timeline.items()]
    turns = [point for each in zip_longest(*wanted) for point in each if point][:kills]
    order = list(timeline)
    return sorted(turns, key=lambda point: (order.index(point.stage), _place(point.moment, timeline[point.stage])))


def _moments(seen: dict[str, Any], draw: random.Random) -> list[str]:
    """Every moment of a stage that has a name, those that say most first."""
    tables = [name for name in seen["writes"] if "." not in name]
    files = [f"{side} {name}" for name in seen["writes"] if "." in name for side in ("before", "after")]
    time_in = f"{draw.uniform(0.1, 0.9) * seen['milliseconds']:.0f} ms in"
    after, before = ([f"{side} {table}" for table in tables] for side in ("after", "before"))
    return ["before record", time_in, *after, "start", "recorded", *before, *draw.sample(files, k=len(files))]


def _place(moment: str, seen: dict[str, Any]) -> float:
    """Where in its stage a moment is tried; one that is told by a clock comes late, since it may leave no write behind it."""
    fixed = {"start": -1, "before record": 1001, "recorded": 1002}
    if moment in fixed:
        return fixed[moment]
    side, name = moment.split(" ", 1)
    return 1000 if name == "ms in" else seen["writes"].index(name) + (0.5 if side == "after" else 0)


def _night(folder: Path, town: str, number: int, point: Point | None) -> None:
    from flows.nightly import nightly
    from tasks.nights import NightRequest

    watch = _Watch(point, folder / town / "point.json")
    watch.install()
    (folder / town).mkdir(exist_ok=True)
    overrides = [*towns.overrides(folder, town), *PROMOTING, f"lake.root={_lake(folder, town)}"]
    nightly(NightRequest(day=towns.day(number), config=towns.DEMO, overrides=overrides))
    (folder / town / "timeline.json").write_text(json.dumps(watch.timeline))


def _lake(folder: Path, town: str) -> str:
    return f"s3://{town}/lake" if "AWS_ENDPOINT_URL" in os.environ else f"{folder}/{town}/lake"


class _Watch(logging.Handler):
    """Follows the stages by their log lines and the lake's writes; kills the process at its point."""

    def __init__(self, point: Point | None, note: Path) -> None:
        super().__init__()
        self.note, self.once = note, threading.Lock()
        self.point, self.stage, self.started = point, "", 0.0
        self.writes: list[str] = []
        self.timeline: dict[str, dict[str, Any]] = {}

    def install(self) -> None:
        from dealrec_core.lake import Lake
        from dealrec_core.lake.draft import Draft

        log = logging.getLogger("prefect.task_runs")
        log.addHandler(self)
        for owner, name in ((Lake, "write_bytes"), (Lake, "_write"), (Draft, "commit")):
            setattr(owner, name, self._counted(getattr(owner, name)))

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if ": start" in text:
            self.stage, self.writes, self.started = text.split(" of night")[0], [], time.monotonic()
            self._at("start")
            self._later()
        elif ": done in" in text:
            spent = (time.monotonic() - self.started) * 1000
            self.timeline[self.stage] = {"writes": self.writes, "milliseconds": round(spent)}
            self._at("recorded")

    def _counted(self, write: Any) -> Any:
        def counted(place: Any, what: Any, *arguments: Any, **named: Any) -> Any:
            if not self.stage:
                return write(place, what, *arguments, **named)
            name = _name(place, what)
            if "/stages/" in name:
                if self.point and self.point.stage == self.stage and self.point.moment != "recorded":
                    self._kill("before record")
                return write(place, what, *arguments, **named)
            if name not in self.writes:
                self.writes.append(name)
            self._at(f"before {name}")
            done = write(place, what, *arguments, **named)
            self._at(f"after {name}")
            return done

        return counted

    def _at(self, moment: str) -> None:
        if self.point == Point(self.stage, moment):
            self._kill(moment)

    def _later(self) -> None:
        if self.point and self.point.stage == self.stage and self.point.moment.endswith(" ms in"):
            timer = threading.Timer(float(self.point.moment.split()[0]) / 1000, self._kill, (self.point.moment,))
            timer.daemon = True
            timer.start()

    def _kill(self, moment: str) -> None:
        self.once.acquire()  # never given back: one kill, also where the timer and a write meet
        self.note.write_text(json.dumps(asdict(Point(self.stage, moment))))
        os.kill(os.getpid(), signal.SIGKILL)


def _name(place: Any, what: Any) -> str:
    """Name of the write: a table, the record of a stage by its path, or a file by its last name."""
    if not isinstance(what, str):
        return str(place.table)
    return what if "/stages/" in what else what.rsplit("/", 1)[-1]


def _kind(moment: str) -> str:
    if moment in ("start", "before record", "recorded"):
        return moment
    return "inside" if moment.endswith(" ms in") else f"{moment.split(' ')[0]} a write"


# The comparison


def _compare(folder: Path) -> list[str]:
    in_child(_write_differences, folder)
    return list(json.loads((folder / "differences.json").read_text()))


def _write_differences(folder: Path) -> None:
    quiet, killed = (_state(folder, town) for town in ("quiet", "killed"))
    keys = sorted(quiet.keys() | killed.keys())
    found = [
        f"{key}: {_short(quiet.get(key))} undisturbed, {_short(killed.get(key))} after the kills"
        for key in keys
        if quiet.get(key) != killed.get(key)
    ]
    (folder / "differences.json").write_text(json.dumps(found))
    (folder / "compared.json").write_text(json.dumps(dict(Counter(key.split(" ")[0] for key in keys))))


def _state(folder: Path, town: str) -> dict[str, Any]:
    """Every table's rows, every published file's bytes, every stage's facts, and the registry, by name."""
    from dealrec_core.lake import Lake
    from dealrec_core.lake.nights import TABLES, nights

    lake = Lake(_lake(folder, town))
    state: dict[str, Any] = {}
    for table in TABLES:
        frame = lake.scan(table).collect()
        kept = frame.drop([name for name in frame.columns if name in NOT_COMPARED])
        rows = sorted(json.dumps(row, default=str, sort_keys=True) for row in kept.iter_rows(named=True))
        state[f"table {table}"] = (len(rows), hashlib.sha256("\n".join(rows).encode()).hexdigest())
    for path in [*lake.list_paths("models"), *lake.list_paths("emitted")]:
        if not path.endswith(("SUMS", ".crc")) and "_delta_log" not in path:
            state[f"file {path}"] = hashlib.sha256(lake.read_bytes(path)).hexdigest()
    for night in nights(lake):
        for each in night.snapshots():
            facts = {name: value for name, value in each.facts.items() if name not in NOT_COMPARED}
            state[f"facts of {night.name} {each.stage}"] = (each.rows, each.sha256, facts)
    return state | _registry(folder, town)


def _registry(folder: Path, town: str) -> dict[str, Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/{town}/mlflow.db")
    experiments = [found.experiment_id for found in client.search_experiments()]
    runs = {found.info.run_name: found for found in client.search_runs(experiments, max_results=1000)}
    state: dict[str, Any] = {"registry runs": sorted(runs)}
    for name, found in runs.items():
        metrics = {
            key: value for key, value in found.data.metrics.items() if not key.endswith(("seconds", "total_minutes"))
        }
        state[f"registry metrics of {name}"] = metrics
    for model in client.search_registered_models():
        state[f"registry aliases of {model.name}"] = dict(model.aliases)
        versions = client.search_model_versions(f"name = '{model.name}'")
        state[f"registry versions of {model.name}"] = sorted(int(found.version) for found in versions)
    return state


def _short(value: Any) -> str:
    return json.dumps(value, default=str)[:300]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--stages", nargs="*", help="only in these; all when left out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", help="kept afterwards; a temporary one when left out")
    parser.add_argument("--s3", action="store_true", help="both lakes are buckets of a mock of S3")
    parser.add_argument("--results", help="benchmarks/results/kills.json or kills_s3.json when left out")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
