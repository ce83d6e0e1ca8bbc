"""Ingestion of a large CSV against plain polars and DuckDB, then a night with 1% new rows; writes benchmarks/results/lake.json.

Every step runs in a process of its own, so that its peak memory is its own. The plain polars job scans, validates and writes
the same rows by day and looks for no duplicates; the DuckDB job does what the lake does, without its books.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl

from dealrec_core.ingest import interactions
from dealrec_core.lake import Lake
from dealrec_core.samples import sample_table, split
from dealrec_core.settings.sources import InteractionSource, SourcesConfig

FIRST = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp())
DAYS, DAY = 365, 86_400
DUPLICATES, BAD = 0.01, 0.001
BLOCK_ROWS = 1_000_000
SEED = 7
COLUMNS = ("user_id", "item_id", "timestamp", "event_type", "rating")
SOURCE = InteractionSource(files=["*.csv"], event_type="event_type", rating="rating")
IDENTITY = "user_id, item_id, timestamp, event_type"


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        folder = Path(scratch)
        steps: dict[str, list[dict[str, float]]] = {name: [] for name in options.steps}
        write_log(folder / "raw" / "log.csv", options.rows, first_day=0, days=DAYS)
        for _ in range(options.repeats):
            for name, found in steps.items():
                found.append(_step(name, folder, options))
        result = {
            "command": "python benchmarks/lake.py "
            + " ".join(sys.argv[1:]).replace(str(options.scratch or ""), "FOLDER"),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, polars {pl.__version__}",
            "load average": round(os.getloadavg()[0], 1),
            "rows": options.rows,
            "csv_bytes": (folder / "raw" / "log.csv").stat().st_size,
            "steps": {name: min(found, key=lambda each: each["seconds"]) for name, found in steps.items()},
        }
        best = {name: found["seconds"] for name, found in result["steps"].items()}
        cpu = {name: found["cpu_seconds"] for name, found in result["steps"].items()}
        result["ratios"] = {
            "lake / plain polars without deduplication": round(best["lake"] / best["polars"], 2),
            "lake / plain polars without deduplication, CPU seconds": round(cpu["lake"] / cpu["polars"], 2),
            **({"lake / duckdb": round(best["lake"] / best["duckdb"], 2)} if "duckdb" in best else {}),
            "million rows a second": round(options.rows / best["lake"] / 1e6, 2),
        }
        if options.growth:
            result["growth"] = _growth(folder, options)
        if options.flat:
            result["five times the rows"] = _five_times(folder, options)
    text = json.dumps(result, indent=1)
    print(text)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text + "\n")


def _growth(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """The full build (ingest and samples) against a night that brings 1% more rows."""
    full = [_step("lake", folder, options), _step("samples", folder, options)]
    write_log(folder / "raw" / "next.csv", options.rows // 100, first_day=DAYS - 3, days=4, seed=SEED + 1)
    night = [_step("next", folder, options), _step("samples", folder, options)]
    return {
        "full ingest": full[0]["seconds"],
        "full samples": full[1]["seconds"],
        "next ingest": night[0]["seconds"],
        "next samples": night[1]["seconds"],
        "next / full": round(sum(each["seconds"] for each in night) / sum(each["seconds"] for each in full), 3),
    }


def _five_times(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """An ingest of a log with five times the rows: its memory should not grow."""
    larger = folder / "larger"
    write_log(larger / "raw" / "log.csv", 5 * options.rows, first_day=0, days=DAYS)
    return _step("lake", larger, options)


def write_log(path: Path, rows: int, *, first_day: int, days: int, seed: int = SEED) -> None:
    """A log in order of time: `rows` rows, 1% of them again later, 0.1% with a timestamp that is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    with path.open("wb") as file:
        for start in range(0, rows, BLOCK_ROWS):
            count = min(BLOCK_ROWS, rows - start)
            frame = _block(random, count, start / rows, count / rows, first_day, days, users=max(rows // 40, 10))
            frame.write_csv(file, include_header=start == 0)


def _block(
    random: np.random.Generator, count: int, begin: float, share: float, first_day: int, days: int, *, users: int
) -> pl.DataFrame:
    moments = FIRST + first_day * DAY + ((begin + np.sort(random.random(count)) * share) * days * DAY).astype(np.int64)
    frame = pl.DataFrame(
        {
            "user_id": random.integers(0, users, count),
            "item_id": (random.zipf(1.3, count) % 200_000),
            "timestamp": pl.Series(moments).cast(pl.String),
            "event_type": np.array(["view", "cart", "buy"])[random.integers(0, 3, count)],
            "rating": random.integers(1, 6, count),
        }
    )
    twice, bad = int(count * DUPLICATES), int(count * BAD)
    places = np.arange(count)
    places[random.choice(count, twice, replace=False)] = random.choice(count, twice)
    frame = frame[places]
    is_bad = np.zeros(count, dtype=bool)
    is_bad[random.choice(count, bad, replace=False)] = True
    return frame.with_columns(pl.when(pl.Series(is_bad)).then(pl.lit("soon")).otherwise("timestamp").alias("timestamp"))


def polars_job(folder: Path) -> int:
    """Scan, validate, write by day; no deduplication, no books."""
    text = pl.scan_csv(folder / "raw" / "log.csv", schema=dict.fromkeys(COLUMNS, pl.String()))
    seconds = pl.col("timestamp").cast(pl.Int64, strict=False)
    typed = text.select(
        pl.col("user_id", "item_id", "event_type").str.strip_chars(),
        (seconds * 10**6).cast(pl.Datetime("us", "UTC")).alias("timestamp"),
        pl.col("rating").cast(pl.Float64, strict=False),
    )
    good = typed.filter(
        pl.col("timestamp").is_not_null(),
        pl.col("user_id").str.len_bytes().is_between(1, 512),
        pl.col("item_id").str.len_bytes().is_between(1, 512),
        pl.col("rating").is_finite(),
    ).with_columns(pl.col("timestamp").dt.strftime("%Y-%m-%d").alias("period"))
    target = pl.PartitionBy(folder / "polars", key="period", include_key=False)
    good.sink_parquet(target, mkdir=True, compression="zstd", compression_level=1)
    return 0


def duckdb_job(folder: Path) -> int:
    """Scan, validate, drop duplicates, write by day."""
    import duckdb

    connection = duckdb.connect(str(folder / "scratch.duckdb"))
    connection.execute(
        f"SET memory_limit='1400MB'; SET temp_directory='{folder}/duck'; SET preserve_insertion_order=false"
    )
    connection.execute(
        f"""
        COPY (
            SELECT DISTINCT ON ({IDENTITY}) *, strftime(timestamp, '%Y-%m-%d') AS period FROM (
                SELECT trim(user_id) AS user_id, trim(item_id) AS item_id, trim(event_type) AS event_type,
                    to_timestamp(TRY_CAST(timestamp AS BIGINT)) AT TIME ZONE 'UTC' AS timestamp,
                    TRY_CAST(rating AS DOUBLE) AS rating
                FROM read_csv('{folder}/raw/log.csv', all_varchar=true, header=true)
            )
            WHERE timestamp IS NOT NULL AND strlen(user_id) BETWEEN 1 AND 512 AND strlen(item_id) BETWEEN 1 AND 512
                AND isfinite(rating)
        ) TO '{folder}/duckdb' (FORMAT parquet, PARTITION_BY (period), OVERWRITE true, COMPRESSION zstd)
        """
    )
    return 0


def lake_job(folder: Path) -> int:
    """The product: everything, exactly once, with books."""
    config = SourcesConfig(root=str(folder / "raw"), interactions=SOURCE)
    return interactions.ingest(Lake(str(folder / "lake")), config, through=date(2027, 1, 1), partition="day").inserted


def samples_job(folder: Path) -> int:
    """Work of a night after the ingest: the moments that split the log, and the samples that are not there yet."""
    lake, config = Lake(str(folder / "lake")), split.SamplesConfig()
    version = lake.version("interactions")
    split.boundaries(lake.scan("interactions", version), config, not_before=None)
    return sample_table.update(lake, log_version=version, length=config.history_length).written


JOBS: dict[str, Callable[[Path], int]] = {
    "polars": polars_job,
    "duckdb": duckdb_job,
    "lake": lake_job,
    "next": lake_job,
    "samples": samples_job,
}


def _step(name: str, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    target = {"next": "", "samples": ""}.get(name, name)
    if target:
        subprocess.run(["rm", "-rf", str(folder / target), str(folder / "scratch.duckdb")], check=True)
    done = subprocess.run(
        [sys.executable, __file__, "--job", name, "--scratch", str(folder)], check=True, capture_output=True, text=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    print(name, done.stdout.strip(), file=sys.stderr, flush=True)
    return found


def _run(name: str, folder: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    rows = JOBS[name](folder)
    seconds = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_SELF)
    found = {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_gib": round(usage.ru_maxrss / 2**20, 2),
        "imports_gib": round(before / 2**20, 2),
        "rows": rows,
    }
    print(json.dumps(found))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument(
        "--steps", nargs="+", choices=["polars", "lake", "duckdb"], default=["polars", "lake", "duckdb"]
    )
    parser.add_argument("--growth", action="store_true", help="also a night with 1%% new rows")
    parser.add_argument("--flat", action="store_true", help="also a log of five times the rows")
    parser.add_argument("--scratch", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "lake.json")
    parser.add_argument("--job", choices=list(JOBS))
    return parser.parse_args()


if __name__ == "__main__":
    options = _options()
    if options.job:
        _run(options.job, options.scratch)
    else:
        main()
