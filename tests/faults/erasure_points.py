"""Erases a user again and again, while the disk dies, tears a write or fills up at one call after the other; prints what went wrong.

Run with the library of disk.c preloaded: `LD_PRELOAD=disk.so python tests/faults/erasure_points.py FOLDER STRIDE`. A stride of 1 tries
every call, a larger one every so many of them, with another start for each fault.
"""

import ctypes
import json
import os
import shutil
import sys
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from dealrec_core import schema
from dealrec_core.ingest import interactions
from dealrec_core.lake import Lake, damage, erasure, upkeep
from dealrec_core.lake.store import SUMS
from dealrec_core.samples import sample_table
from dealrec_core.settings.sources import InteractionSource, SourcesConfig

USER, NOW = "someone-7421", datetime(2026, 2, 1, tzinfo=UTC)
KILL, TEAR, FULL = 1, 2, 3
FAULTS = {"kill": KILL, "torn write": TEAR, "no space": FULL}
EMITTED = "emitted/coresets/night"
disk = ctypes.CDLL(None)
disk.disk_call.restype = ctypes.c_char_p


def main(folder: Path, stride: int) -> None:
    town = make(folder / "town")
    problems, tried = [], {}
    for now in (False, True):
        calls, expected = undisturbed(town, folder / "lake", now=now)
        for place, (name, fault) in enumerate(FAULTS.items()):
            points = [number for number, call in enumerate(calls) if concerns(fault, call)][place % stride :: stride]
            tried[f"{name}, now={now}"] = len(points)
            for number in points:
                shutil.copytree(town, folder / "lake")
                if state := disturbed(folder / "lake", fault, number, now=now, expected=expected):
                    problems.append(f"{name} at {number} ({calls[number]}), now={now}: {state}")
                shutil.rmtree(folder / "lake")
    sys.stdout.write(json.dumps({"tried": tried, "problems": problems}) + "\n")


def concerns(fault: int, call: str) -> bool:
    """Whether a fault can strike at a call: only a write is torn, and only what grows fills the disk."""
    grows = call.split()[0] in ("open", "write", "link", "linkat", "mkdir")
    return {KILL: True, TEAR: call.startswith("write"), FULL: grows}[fault]


def undisturbed(town: Path, folder: Path, *, now: bool) -> tuple[list[str], object]:
    """The calls of an erasure, and what it leaves."""
    shutil.copytree(town, folder)
    disk.disk_arm(str(folder).encode(), 0, 0)
    erase(folder, now=now)
    calls = [disk.disk_call(number).decode() for number in range(disk.disk_calls())]
    disk.disk_arm(b"", 0, 0)
    content = look(folder)
    shutil.rmtree(folder)
    return calls, content


def disturbed(folder: Path, fault: int, number: int, *, now: bool, expected: object) -> str:
    """What is wrong after a disturbed erasure and another one, nothing if all is right."""
    disk.disk_arm(str(folder).encode(), fault, number)
    with suppress(BaseException):  # a panic of the table library is none of Exception
        erase(folder, now=now)
    disk.disk_arm(b"", 0, 0)
    try:
        report = erase(folder, now=now)
        if now and report.remaining:
            return f"remaining: {report.remaining}"
        content = look(folder)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:300]
    return "" if content == expected else f"{content} instead of {expected}"


def erase(folder: Path, *, now: bool) -> erasure.Erasure:
    return erasure.erase(Lake(str(folder)), USER, at=NOW, now=now)


def look(folder: Path) -> object:
    """Every row of every table, the files of coresets, and where the user stands once upkeep has passed."""
    lake = Lake(str(folder))
    tables = upkeep.tables(lake)
    rows = {table: sorted(map(str, lake.scan(table).collect().iter_rows())) for table in tables}
    users = lake.scan("erasures").select("user").collect()["user"].n_unique()
    for table in tables:
        upkeep.vacuum(lake, table, keep=set(), retention_hours=0)
    traces = [path for path in folder.rglob("*") if path.is_file() and USER in text_of(path)]
    leftovers = [path for table in [*tables, "emitted"] for path in damage.unfinished(lake, table)]
    return rows, users, traces, leftovers, lake.list_paths("emitted")


def text_of(path: Path) -> str:
    whole = path.suffix == ".parquet" and path.parent.name != "_delta_log"
    unpacked = str(pl.read_parquet(path, hive_partitioning=False).to_dicts()) if whole else ""
    return unpacked + path.read_bytes().decode(errors="replace")


def make(folder: Path) -> Path:
    """A lake in which the user is everywhere, in an old version too."""
    lake, raw = Lake(str(folder)), folder.parent / "raw"
    raw.mkdir()
    lines = [f"{user},{item},{1767225600 + hour}" for user in (USER, "other") for hour, item in enumerate("abc")]
    (raw / "log.csv").write_text("\n".join(["user_id,item_id,timestamp", *lines, f"{USER},x,soon"]) + "\n")
    source = SourcesConfig(root=str(raw), interactions=InteractionSource(files=["*.csv"]), max_bad_fraction=1)
    interactions.ingest(lake, source, through=date(2026, 1, 9), partition="day")
    sample_table.update(lake, log_version=lake.version("interactions"), length=3)
    samples = lake.scan("samples").collect()
    rows = samples.select(
        night=pl.lit("night"), sample_id="sample_id", content=pl.lit("c"), model=pl.lit("m"), effort=1.0
    )
    for table, frame in {"efforts": rows, "influences": rows.select("night", "sample_id", influence=1.0)}.items():
        lake.append(table, frame, schema=getattr(schema, table.upper()))
    (folder / EMITTED).mkdir(parents=True)
    samples.write_parquet(folder / EMITTED / "samples.parquet")
    for name in ("alpaca.jsonl", "card.md", SUMS):
        (folder / EMITTED / name).write_text(USER)
    return folder


if __name__ == "__main__":
    os.makedirs(sys.argv[1], exist_ok=True)
    main(Path(sys.argv[1]), int(sys.argv[2]))
