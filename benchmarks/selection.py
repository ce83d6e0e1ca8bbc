"""Cost of selecting a coreset: `python benchmarks/selection.py [--samples 10000000]`.

Each stratified method selects 2% of so many samples in a process of its own (wall seconds and peak memory of that process,
the frame of scores included). Beside it, on the size of Games, Algorithm 2 as loops over rows, with the same groups and
the same budget: the ratio to it is taken within this run. Writes benchmarks/results/selection.json.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dealrec_core.coreset import select
from dealrec_core.settings.coreset import CoresetConfig

RESULTS = Path(__file__).resolve().parent / "results" / "selection.json"
METHODS = ("dealrec", "dealrec-released", "coverage", "ccs", "greedy", "random", "targeted")
GAMES = 49_156
ITEMS = 100_000
RECENT = {
    "item": np.random.default_rng(1).zipf(1.2, 1_000_000) % ITEMS,
    "category": np.zeros(1_000_000, dtype=np.int64),
}
"""Targets of a million recent samples, for `targeted`."""
LIMIT_S, LIMIT_GIB = 6.0, 3.0


def main() -> None:
    """Measures, prints and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", choices=METHODS, help="measure one method in this process")
    parser.add_argument(
        "--only", nargs="*", default=METHODS, choices=METHODS, help="measure these again and keep the others"
    )
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.one, options.samples, options.repeats)))
        return
    found: dict[str, Any] = {
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "polars threads": pl.thread_pool_size(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "polars": pl.__version__,
        },
        "samples": options.samples,
        "limits": {"seconds": LIMIT_S, "GiB": LIMIT_GIB},
        "loops": against_loops(),
        "methods": json.loads(RESULTS.read_text())["methods"] if options.only != METHODS else {},
    }
    print(json.dumps(found["loops"]), flush=True)
    for name in options.only:
        found["methods"][name] = _in_a_process(name, options.samples, options.repeats)
        print(f"{name}: {json.dumps(found['methods'][name])}", flush=True)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def measured(name: str, samples: int, repeats: int) -> dict[str, float]:
    """Seconds of so many selections, by the clock and of the processor, and the peak memory of this process in GiB."""
    frame = scores(samples)
    config = CoresetConfig.model_validate({"method": name})
    seconds, of_processor = [], []
    for seed in range(repeats):
        started, worked = time.perf_counter(), time.process_time()
        chosen = select(frame, config, seed=seed, reference=RECENT)
        seconds.append(time.perf_counter() - started)
        of_processor.append(time.process_time() - worked)
        assert len(chosen.frame) == round(config.ratio * samples)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    found = {"best_s": min(seconds), "worst_s": max(seconds), "best_cpu_s": min(of_processor), "peak_GiB": peak}
    return {what: round(value, 2) for what, value in found.items()}


def scores(samples: int) -> pl.DataFrame:
    """Heavy-tailed influence and skewed effort under ids like those of real samples, with the traits of `coverage`."""
    random = np.random.default_rng(0)
    low, high = 10**18, 9 * 10**18  # 19 digits each, of which 16 are taken
    ids = pl.DataFrame({name: random.integers(low, high, size=samples) for name in ("a", "b")})
    as_text = pl.concat_str(*(pl.col(name).cast(pl.String).str.slice(3, 16) for name in ("a", "b")))
    return ids.select(
        as_text.alias("sample_id"),
        pl.Series("influence", random.standard_t(3, samples)),
        pl.Series("effort", random.lognormal(size=samples)),
        pl.Series("category", random.integers(30, size=samples).astype(np.int32)),
        pl.Series("popularity", np.floor((1 - random.random(samples, dtype=np.float32)) ** -1.5)),
        pl.Series("recency", random.random(samples, dtype=np.float32)),
        pl.Series("el2n", random.random(samples, dtype=np.float32)),
        pl.Series("item", (random.zipf(1.2, samples) % ITEMS).astype(np.int32)),
    )


def against_loops() -> dict[str, float]:
    """This selection by loops over rows, on as many samples as Games has."""
    frame = scores(GAMES)
    config = CoresetConfig()
    ours = min(_seconds(lambda: select(frame, config, seed=0)) for _ in range(3))
    naive = min(_seconds(lambda: by_loops(frame, config)) for _ in range(3))
    return {"samples": GAMES, "ours_s": round(ours, 4), "loops_s": round(naive, 4), "ratio": round(naive / ours, 1)}


def by_loops(frame: pl.DataFrame, config: CoresetConfig) -> list[str]:
    """Ranks, groups and Algorithm 2, written as one would on paper."""
    random = np.random.default_rng(0)
    ids = frame["sample_id"].to_list()
    overall = [0.0] * len(ids)
    for column, weight in (("influence", 1.0), ("effort", config.effort_weight)):
        values = frame[column].to_list()
        for rank, row in enumerate(sorted(range(len(values)), key=values.__getitem__)):
            overall[row] += weight * rank / (len(values) - 1)
    low, high = min(overall), max(overall)
    groups: list[list[int]] = [[] for _ in range(config.groups)]
    for row, score in enumerate(overall):
        groups[min(int((score - low) / (high - low) * config.groups), config.groups - 1)].append(row)
    left = round(config.ratio * len(ids))
    open_groups = sorted((group for group in groups if group), key=len)
    chosen: list[str] = []
    while open_groups:
        take = min(left // len(open_groups), len(open_groups[0]))
        group = open_groups.pop(0)
        for _ in range(take):
            chosen.append(ids[group.pop(int(random.integers(len(group))))])
        left -= take
    return chosen


def _in_a_process(name: str, samples: int, repeats: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", name, "--samples", str(samples), "--repeats", str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.strip().splitlines()[-1])
    found["load"] = round(os.getloadavg()[0], 1)
    return {**found, "within limits": found["worst_s"] < LIMIT_S and found["peak_GiB"] < LIMIT_GIB}


def _seconds(step: Any) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
