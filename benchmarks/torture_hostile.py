"""Files that mean harm: a line of 5 GiB and decompression bombs, each ingested in a process of its own whose peak memory counts.

Writes benchmarks/results/torture_hostile.json. Needs about 6 GiB of disk.
"""

import argparse
import bz2
import gzip
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from dealrec_core.ingest import interactions
from dealrec_core.lake import Lake
from dealrec_core.settings.sources import InteractionSource, SourcesConfig

HEADER, GOOD = b"user_id,item_id,timestamp\n", b"good,item,1767225600\n"
MIB = 2**20


def plain(path: Path, _: int) -> None:
    path.write_bytes(HEADER + GOOD)


def line(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.write(HEADER + GOOD)
        for _ in range(size // (64 * MIB)):
            file.write(b"a" * 64 * MIB)
        file.write(b"\n" + GOOD.replace(b"good", b"best"))


def packed(opened: Callable[[Path], object]) -> Callable[[Path, int], None]:
    def write(path: Path, size: int) -> None:
        with opened(path) as file:  # type: ignore[attr-defined]
            file.write(HEADER + GOOD)
            for _ in range(size // (64 * MIB)):
                file.write(bytes(64 * MIB))

    return write


def parquet(path: Path, size: int) -> None:
    """Few bytes, since every row is the same long text."""
    rows = size // MIB
    text = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["a" * MIB]))
    ids, times = pa.array(["x"] * rows), pa.array([1767225600] * rows)
    pq.write_table(pa.table({"user_id": text, "item_id": ids, "timestamp": times}), path, compression="zstd")


HARM: dict[str, tuple[str, Callable[[Path, int], None]]] = {
    "a harmless file": ("log.csv", plain),
    "one line of 5 GiB": ("log.csv", line),
    "gz bomb": ("log.csv.gz", packed(partial(gzip.open, mode="wb", compresslevel=6))),
    "zst bomb": ("log.csv.zst", packed(partial(zstandard.open, mode="wb"))),
    "bz2 bomb": ("log.csv.bz2", packed(partial(bz2.open, mode="wb"))),
    "Parquet of long equal values": ("log.parquet", parquet),
}


def main() -> None:
    options = _options()
    found = {}
    for name, (file, write) in HARM.items():
        with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
            (Path(scratch) / "raw").mkdir()
            write(Path(scratch) / "raw" / file, 5 * 2**30 if "line" in name else options.bomb_mib * MIB)
            found[name] = _ingested(Path(scratch))
            print(name, found[name], flush=True)
    result = {
        "command": "python benchmarks/torture_hostile.py",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "bombs unpack to, MiB": options.bomb_mib,
        "files": found,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")


def _ingested(folder: Path) -> dict[str, object]:
    command = [sys.executable, __file__, "--ingest", str(folder)]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def _ingest(folder: Path) -> None:
    source = InteractionSource(files=["*"])
    config = SourcesConfig(root=str(folder / "raw"), interactions=source, max_bad_fraction=1)
    lake = Lake(str(folder / "lake"))
    [file] = (folder / "raw").iterdir()
    start = time.perf_counter()
    report = interactions.ingest(lake, config, through=date(2026, 6, 1), partition="day")
    bad = lake.scan("quarantine").collect() if lake.exists("quarantine") else pl.DataFrame()
    found = {
        "size, MiB": round(file.stat().st_size / MIB, 2),
        "peak, MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "seconds": round(time.perf_counter() - start, 1),
        "rows": report.rows,
        "landed": report.inserted,
        "quarantined": report.quarantined,
        "reason": bad["reason"][0].replace(str(folder), "") if bad.height else None,
        "raw text, letters": bad["raw"].str.len_chars().max() if bad.height else 0,
    }
    assert report.rows == report.inserted + report.duplicates + report.quarantined
    print(json.dumps(found))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bomb-mib", type=int, default=2048)
    parser.add_argument("--scratch", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "torture_hostile.json")
    parser.add_argument("--ingest", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    options = _options()
    if options.ingest:
        _ingest(options.ingest)
    else:
        main()
