"""Kill -9 at random moments over two concurrent ingests with a compaction beside them; writes benchmarks/results/torture_kill.json.

Two raw folders grow: new rows, rows that were there before, rows of earlier and of coming days, bad rows, the same content under
another name, files that grow. Both are ingested into one lake at the same time, again and again, and killed: every other time
at a moment drawn from the time an undisturbed ingest takes, else in a phase drawn at random. In the end both are ingested once
undisturbed, and the lake is compared with what plain Python knows to be in the files.
"""

import argparse
import bz2
import gzip
import hashlib
import json
import multiprocessing
import os
import platform
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import deltalake
import polars as pl
import zstandard
from deltalake.exceptions import DeltaError

from dealrec_core.ingest import interactions
from dealrec_core.ingest.delivery import Delivery
from dealrec_core.lake import Lake, ledger
from dealrec_core.lake.draft import Draft
from dealrec_core.settings.sources import InteractionSource, SourcesConfig

FIRST = date(2026, 1, 1)
DAYS, DAY = 8, 86_400
SOURCE = InteractionSource(
    files=["**/*"], user_id="u", item_id="i", timestamp="t", event_type="e", event_id="id", rating="r"
)
PHASES = ("starting", "looking", "reading", "quarantine", "writing", "committing", "books", "done")
LIMIT_S = 60
Event = tuple[str | None, str, str, int, str]
"""Id, user, item, epoch seconds, type."""


@dataclass
class Oracle:
    """Contents of the raw files, as their writer knows them: the records of each content, None where one is bad."""

    contents: dict[str, list[Event | None]] = field(default_factory=dict)
    current: dict[Path, str] = field(default_factory=dict)
    pool: list[Event] = field(default_factory=list)


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        result = torture(Path(scratch), kills=options.kills, seed=options.seed, rows=options.rows)
    result["command"] = f"python benchmarks/torture_kill.py --kills {options.kills} --seed {options.seed}"
    result["machine"] = (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, polars {pl.__version__}, "
        f"deltalake {deltalake.__version__}"
    )
    text = json.dumps(result, indent=1)
    print(text)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text + "\n")
    sys.exit(1 if result["faults"] else 0)


def torture(folder: Path, *, kills: int, seed: int, rows: int = 150) -> dict[str, Any]:
    """Runs rounds until so many ingests were killed; what was found. No entry under `faults` means that all is right."""
    world, oracle = random.Random(seed), Oracle()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["dealrec_core.ingest.interactions", "benchmarks.torture_kill", __name__])
    (folder / "errors").mkdir()
    took = [0.3]
    hit: Counter[str] = Counter()
    found: Counter[str] = Counter()
    start = time.perf_counter()
    while hit.total() < kills:
        _grow(world, oracle, folder, found["rounds"], rows)
        found["rounds"] += 1
        _round(context, world, folder, found, hit, took)
    for name in ("a", "b"):
        _ingest(str(folder / "lake"), str(folder / name), (FIRST + timedelta(DAYS)).toordinal(), [0])
    faults = check(folder, oracle)
    faults += [path.read_text() for path in sorted((folder / "errors").iterdir())]
    lake = Lake(str(folder / "lake"))
    return {
        "kills": hit.total(),
        "killed while": dict(sorted(hit.items())),
        "rounds": found["rounds"],
        "ingests that finished undisturbed": found["finished"],
        "compactions killed": found["compactions killed"],
        "contents": len(oracle.contents),
        "raw rows": sum(len(records) for records in oracle.contents.values()),
        "bad rows": sum(record is None for records in oracle.contents.values() for record in records),
        "rows in the lake": lake.scan("interactions").select(pl.len()).collect().item(),
        "commits": {name: lake.version(name) + 1 for name in ("interactions", "quarantine", "files")},
        "compactions": sum(
            commit.get("operation") == "OPTIMIZE"
            for name in ("interactions", "quarantine", "files")
            for commit in deltalake.DeltaTable(lake.uri(name)).history()
        ),
        "leftovers that nothing reads": _leftovers(lake),
        "seconds": round(time.perf_counter() - start, 1),
        "faults": faults,
    }


def _round(
    context: Any,
    world: random.Random,
    folder: Path,
    found: Counter[str],
    hit: Counter[str],
    took: list[float],
) -> None:
    """Both ingests and a compaction at once; the first three rounds stay undisturbed."""
    through = (FIRST + timedelta(min(found["rounds"] // 25, DAYS - 2))).toordinal()
    lake = str(folder / "lake")
    phases = [context.RawArray("i", 1) for _ in "ab"]
    ingests = [
        context.Process(target=_ingest, args=(lake, str(folder / name), through, phase))
        for name, phase in zip("ab", phases, strict=True)
    ]
    compaction = context.Process(target=_compact, args=(lake, str(folder / "errors")))
    for process in (compaction, *ingests):
        process.start()
    begin = time.perf_counter()
    dues = [_due(world, max(took[-5:])) for _ in ingests]
    for number in range(2):  # every third round one ingest is left alone: it tells how long it takes, and takes rows
        if found["rounds"] <= 3 or (found["rounds"] % 6 == 3 * number):
            dues[number] = _never
    waiting = dict(enumerate(ingests))
    while waiting:
        moment = time.perf_counter() - begin
        for number, process in list(waiting.items()):
            phase = phases[number][0]
            if not process.is_alive():
                del waiting[number]
                _ended(process, phase, moment, folder, found, took)
            elif dues[number](moment, phase) or moment > LIMIT_S:
                process.kill()
                process.join()
                del waiting[number]
                if moment > LIMIT_S:
                    (folder / "errors" / f"hang{found['rounds']}").write_text(f"an ingest hung in {PHASES[phase]}")
                if process.exitcode == -9:
                    hit[PHASES[phases[number][0]]] += 1
        time.sleep(0.0005)
    if world.random() < 0.3:
        compaction.kill()
        found["compactions killed"] += 1
    (folder / "lake" / "stop").write_text("")
    compaction.join()
    (folder / "lake" / "stop").unlink()


def _never(_moment: float, _phase: int) -> bool:
    return False


def _due(world: random.Random, seconds: float) -> Callable[[float, int], bool]:
    """When to kill: at a moment of the run, or some milliseconds after a phase has begun."""
    if world.random() < 0.5:
        due = world.uniform(0, seconds)
        return lambda moment, _phase: moment >= due
    wanted, delay, seen = world.randrange(1, len(PHASES) - 1), world.uniform(0, 0.02), [0.0]

    def is_due(moment: float, phase: int) -> bool:
        if phase < wanted:
            return False
        seen[0] = seen[0] or moment
        return moment >= seen[0] + delay

    return is_due


def _ended(process: Any, phase: int, moment: float, folder: Path, found: Counter[str], took: list[float]) -> None:
    if process.exitcode == 0:
        took.append(moment)
        found["finished"] += 1
    else:
        name = f"round{found['rounds']}-{process.pid}"
        (folder / "errors" / name).write_text(f"an ingest ended with {process.exitcode} in {PHASES[phase]}")


# In the children


def _ingest(lake: str, raw: str, through: int, phase: Any) -> None:
    _announce(phase)
    config = SourcesConfig(root=raw, interactions=SOURCE, max_bad_fraction=1)
    interactions.ingest(Lake(lake), config, through=date.fromordinal(through), partition="day")
    phase[0] = PHASES.index("done")


def _announce(phase: Any) -> None:
    """Lets the parent see what the ingest does."""

    def announced(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*args: Any, **options: Any) -> Any:
            is_other = name == "committing" and args[0].table != "interactions"
            is_healing = name == "books" and phase[0] <= PHASES.index("looking")
            if not is_other and not is_healing:
                phase[0] = PHASES.index(name)
            return function(*args, **options)

        return inner

    if getattr(ledger, "is_announced", False):
        return
    ledger.is_announced = True  # type: ignore[attr-defined]
    ledger.heal = announced("looking", ledger.heal)
    Delivery.read = announced("reading", Delivery.read)  # type: ignore[method-assign]
    ledger.quarantine = announced("quarantine", ledger.quarantine)
    Draft.write = _only("interactions", announced("writing", Draft.write), Draft.write)  # type: ignore[method-assign]
    Draft.commit = announced("committing", Draft.commit)  # type: ignore[method-assign]
    ledger.write = announced("books", ledger.write)


def _only(table: str, first: Callable[..., Any], second: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **options: (first if args[0].table == table else second)(*args, **options)


def _compact(lake: str, errors: str) -> None:
    """Compacts the tables again and again; that a commit is refused is part of the plan."""
    place = Lake(lake)
    while not (Path(lake) / "stop").exists():
        for name in ("interactions", "quarantine", "files"):
            try:
                handle = place.open(name)
                if handle is not None:
                    with suppress(DeltaError):
                        handle.optimize.compact()
            except Exception:
                (Path(errors) / f"compaction{os.getpid()}").write_text(traceback.format_exc())
        time.sleep(0.02)


# The raw files


def _grow(world: random.Random, oracle: Oracle, folder: Path, round_number: int, rows: int) -> None:
    for name in "ab":
        target = folder / name / f"{round_number % 7}"
        target.mkdir(parents=True, exist_ok=True)
        records = [_record(world, oracle, with_bad=True) for _ in range(world.randrange(rows // 2, rows))]
        suffix = world.choice([".csv", ".csv.gz", ".jsonl", ".jsonl.zst", ".csv.bz2"])
        _write(oracle, target / f"{round_number}{suffix}", records)
    if round_number % 3 == 0:  # the same content under another name, in the other folder or in its own
        path = world.choice(sorted(oracle.current))
        copy = folder / world.choice("ab") / f"copy{round_number}-{path.name}"
        _place(copy, path.read_bytes())
        oracle.current[copy] = oracle.current[path]
    if round_number % 4 == 0:  # a log that grows
        path = folder / "a" / "growing.csv"
        before = oracle.contents[oracle.current[path]] if path in oracle.current else []
        _write(oracle, path, before + [_record(world, oracle, with_bad=False) for _ in range(20)])


def _record(world: random.Random, oracle: Oracle, *, with_bad: bool) -> Event | None:
    chance = world.random()
    if with_bad and chance < 0.05:
        return None
    if chance < 0.35 and oracle.pool:
        known = world.choice(oracle.pool)
        if known[0] is not None and world.random() < 0.2:  # the same event again, with another time
            return (*known[:3], known[3] + world.randrange(-DAY, DAY), known[4])
        return known
    user = world.randrange(500)
    moment = int(datetime(2026, 1, 2, tzinfo=UTC).timestamp()) + world.randrange((DAYS - 2) * DAY)
    event_id = f"e{world.randrange(10**12)}" if user % 2 else None
    event = (event_id, f"u{user}", f"ï,{world.randrange(200)}", moment, world.choice(["view", "buy"]))
    oracle.pool.append(event)
    return event


def _write(oracle: Oracle, path: Path, records: list[Event | None]) -> None:
    is_json = ".jsonl" in path.name
    header = "" if is_json else "id,u,i,t,e,r\n"
    spoilt = len(oracle.contents)
    text = header.encode() + b"".join(
        (_json_line(each) if is_json else _csv_line(each)) if each else _bad_line(spoilt + place, is_json)
        for place, each in enumerate(records)
    )
    packed: dict[str, Callable[[bytes], bytes]] = {
        ".gz": gzip.compress,
        ".zst": zstandard.compress,
        ".bz2": bz2.compress,
    }
    content = packed.get(path.suffix, bytes)(text)
    oracle.contents[hashlib.sha256(content).hexdigest()] = records
    oracle.current[path] = hashlib.sha256(content).hexdigest()
    _place(path, content)


def _csv_line(event: Event) -> bytes:
    event_id, user, item, moment, kind = event
    return f'{event_id or ""},{user},"{item}",{moment},{kind},1.5\n'.encode()


def _json_line(event: Event) -> bytes:
    event_id, user, item, moment, kind = event
    return json.dumps({"id": event_id, "u": user, "i": item, "t": moment, "e": kind, "r": 1.5}).encode() + b"\n"


def _bad_line(number: int, is_json: bool) -> bytes:
    lines = (
        [b'{"u": "a"}\n', b"{\n", b'{"u": "a", "i": "\xff", "t": 1767225600}\n', b"[]\n"]
        if is_json
        else [b",u1,,1767225600,view,1\n", b"x,y\n", b",u1,i1,soon,view,1\n", b",u\xff,i1,1767225600,view,1\n"]
    )
    return lines[number % len(lines)]


def _place(path: Path, content: bytes) -> None:
    part = path.parent.parent.parent / "part"
    part.write_bytes(content)
    part.rename(path)


# The comparison


def check(folder: Path, oracle: Oracle) -> list[str]:
    """Everything about the lake that is not as the raw files say."""
    lake = Lake(str(folder / "lake"))
    rows = lake.scan("interactions").collect()
    bad = lake.scan("quarantine").collect()
    files = lake.scan("files").collect()
    faults = _check_events(rows, oracle)
    wanted_bad = {
        (sha, row)
        for sha in set(oracle.current.values())
        for row, record in enumerate(oracle.contents[sha], 1)
        if record is None
    }
    found_bad = list(bad.select("file", "row").iter_rows())
    faults += [f"bad row lost: {each}" for each in sorted(wanted_bad - set(found_bad))]
    faults += [f"in quarantine, not bad: {each}" for each in sorted(set(found_bad) - wanted_bad)]
    faults += [f"twice in quarantine: {each}" for each, times in Counter(found_bad).items() if times > 1]
    faults += _check_books(files, rows, oracle)
    return faults


def _leftovers(lake: Lake) -> dict[str, int]:
    """Files of killed ingests and compactions that no version of a table names; a vacuum takes the first kind."""
    data = log = 0
    for name in ("interactions", "quarantine", "files"):
        table = Path(lake.uri(name))
        named = set()
        for commit in (table / "_delta_log").glob("*.json"):
            actions = map(json.loads, commit.read_text().splitlines())
            named |= {unquote(action["add"]["path"]) for action in actions if "add" in action}
        data += sum(
            str(path.relative_to(table)) not in named
            for path in table.rglob("*.parquet")
            if "_delta_log" not in str(path)
        )
        log += sum(
            not path.name.endswith((".json", ".parquet", "_last_checkpoint"))
            for path in (table / "_delta_log").iterdir()
        )
    return {"data files": data, "log files": log}


def _check_events(rows: pl.DataFrame, oracle: Oracle) -> list[str]:
    faults = []
    events = {record for sha in oracle.current.values() for record in oracle.contents[sha] if record}
    plain = {event for event in events if event[0] is None}
    ids = {event[0] for event in events if event[0] is not None}
    landed = []
    for event_id, user, item, moment, kind, file, row, period in rows.select(
        "event_id", "user_id", "item_id", "timestamp", "event_type", "file", "row", "period"
    ).iter_rows():
        event = (event_id, user, item, int(moment.timestamp()), kind)
        landed.append(event)
        if period != moment.date().isoformat():
            faults.append(f"in the wrong partition {period}: {event}")
        if oracle.contents.get(file, [])[row - 1 : row] != [event]:
            faults.append(f"not what its file says: {event}, {file} {row}")
    keys = Counter(event if event[0] is None else event[0] for event in landed)
    wanted = plain | ids
    faults += [f"doubled: {key}" for key, times in keys.items() if times > 1]
    faults += [f"lost: {key}" for key in sorted(wanted - set(keys), key=str)]
    return faults + [f"from nowhere: {key}" for key in sorted(set(keys) - wanted, key=str)]


def _check_books(files: pl.DataFrame, rows: pl.DataFrame, oracle: Oracle) -> list[str]:
    faults = []
    counts = ["earlier", "inserted", "duplicates", "quarantined", "filtered", "postponed"]
    open_books = files.filter(pl.col("rows") != pl.sum_horizontal(counts))
    faults += [f"books do not balance: {row}" for row in open_books.iter_rows(named=True)]
    faults += [
        f"booked twice: {row}" for row in files.filter(files.select("file", "through").is_duplicated()).iter_rows()
    ]
    landed = Counter(rows["file"].to_list())
    booked = {sha: part.sort("through") for (sha,), part in files.partition_by("file", as_dict=True).items()}
    for sha in set(oracle.current.values()) | set(landed):
        records = oracle.contents[sha]
        part = booked.get(sha)
        if part is None:
            faults.append(f"not in the books: {sha}")
            continue
        wanted = (landed[sha], sum(record is None for record in records), len(records))
        found = (part["inserted"].sum(), part["quarantined"].sum(), part["rows"][0])
        if wanted != found:
            faults.append(f"inserted, quarantined, rows of {sha} are {wanted}, booked {found}")
        if sha in oracle.current.values():
            total = part.select("inserted", "duplicates", "quarantined").sum().sum_horizontal().item()
            if total != len(records) or part["postponed"][-1]:
                faults.append(f"of {len(records)} rows of {sha} {total} are booked")
    return faults


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--rows", type=int, default=150, help="of a raw file, at most")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--scratch", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "torture_kill.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
