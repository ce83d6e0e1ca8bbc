"""Time and memory of effort over two nights on Games: `python benchmarks/effort_nights.py`.

The stages of two nights as they are (ingest, samples, base model, effort; without Prefect), on a log of the train period
in which users come one after the other: 48,000 train samples in the first night, 1% more in the second, which scores
these only. Each effort stage runs in a process of its own: its CPU seconds, and how far the peak of its memory grew over
what it held with all imports done and the language model loaded. A first night with a tenth of the samples shows
whether memory grows with their number. Writes benchmarks/results/effort_nights.json.
"""

import argparse
import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import town as towns
from benchmarks.games import Games
from benchmarks.machine import machine
from benchmarks.town import in_child

RESULTS = towns.ROOT / "benchmarks" / "results" / "effort_nights.json"
START = datetime(2020, 1, 1, tzinfo=UTC)
HELD = 0.01
"""Share of the log that is validation, and that is test: as little as makes a night."""


def main() -> None:
    """Measures, prints and writes the results."""
    options = _options()
    games = Games((towns.ROOT / os.environ.get("DEALREC_DATA", "../shared/data")).resolve() / "games")
    counts = {"tenth": [options.samples // 10], "whole": [options.samples, options.samples + options.samples // 100]}
    found: dict[str, Any] = {}
    with towns.folder(None) as folder:
        for name, nights in counts.items():
            for number, stop in enumerate(_stops(games, nights)):
                in_child(_write_log, folder / name / "data", games, number, stop)
                in_child(_until_effort, folder, name, number, options)
                in_child(_effort, folder, name, number, options)
                found[f"{name} {number}"] = json.loads((folder / name / f"{number}.json").read_text())
                print(name, number, found[f"{name} {number}"], flush=True)
    result = _result(found, options)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


def _result(found: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    tenth, first, second = found["tenth 0"], found["whole 0"], found["whole 1"]
    return {
        "machine": machine(),
        "model": {"width": options.width, "layers": options.layers, "parameters": first.pop("parameters")},
        "first night": first,
        "second night": second,
        "first night with a tenth of the samples": tenth,
        "second night to first, CPU seconds of the stage": round(second["CPU seconds"] / first["CPU seconds"], 4),
        "bound": 0.03,
        "peak grew more with ten times the samples, MiB": first["growth of the peak, MiB"]
        - tenth["growth of the peak, MiB"],
        "bound of the growth, MiB": 2048,
    }


def _stops(games: Games, counts: list[int]) -> list[int]:
    """How many events, users one after the other, hold so many train samples: all but each user's first in the train slice."""
    samples = np.cumsum([place > 0 for items in games.train for place, _ in enumerate(items)])
    inside = [int(np.searchsorted(samples, count)) + 1 for count in counts]
    return [next(e for e in range(i, 2 * i) if int(e * (1 - 2 * HELD)) == i) for i in inside]


def _write_log(folder: Path, games: Games, number: int, stop: int) -> None:
    """The events up to `stop` that no earlier file holds, a minute apart."""
    (folder / "log").mkdir(parents=True, exist_ok=True)
    (folder / "items").mkdir(exist_ok=True)
    before = sum(pl.scan_csv(path).select(pl.len()).collect().item() for path in (folder / "log").glob("*.csv"))
    users = pl.Series("userId", np.repeat(np.arange(len(games.train)), list(map(len, games.train))))
    items = pl.Series("itemId", [item for bought in games.train for item in bought])
    times = pl.Series("timestamp", int(START.timestamp()) + 60 * np.arange(len(users)))
    log = pl.DataFrame([users, items, times, pl.Series("rating", np.full(len(users), 5.0))])
    log[before:stop].write_csv(folder / "log" / f"{number}.csv")
    known = games.catalogue
    names = pl.DataFrame({"itemId": known.item_ids, "title": known.titles, "categories": ""})
    names.write_csv(folder / "items" / "items.csv")


def _until_effort(folder: Path, name: str, number: int, options: argparse.Namespace) -> None:
    from tasks.stages.base_model import provide_base_model
    from tasks.stages.ingest import ingest
    from tasks.stages.samples import build_samples

    _run(_request(folder, name, number, options), [ingest, build_samples, provide_base_model])


def _effort(folder: Path, name: str, number: int, options: argparse.Namespace) -> None:
    import torch

    from dealrec_core.language import language_model
    from tasks.nights import one_night
    from tasks.stages.effort import score_effort
    from tasks.tonight import Tonight

    request = _request(folder, name, number, options)
    with one_night(request) as night:
        model, _ = language_model.load(str(Tonight(night).folder("base_model")), device=torch.device("cpu"))
        parameters = model.num_parameters()
        held = psutil.Process().memory_info().rss  # with one copy of the model; the stage loads another
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    started = time.process_time()
    _run(request, [score_effort])
    seconds = time.process_time() - started
    with one_night(request) as night:
        facts = night.need("effort").facts
    measured = {
        "train samples": facts["samples"],
        "scored": facts["computed"],
        "CPU seconds": round(seconds, 2),
        "growth of the peak, MiB": round((_peak() - held) / 2**20),
        "parameters": parameters,
    }
    (folder / name / f"{number}.json").write_text(json.dumps(measured))


def _run(request: Any, stages: list[Any]) -> None:
    from prefect.logging import disable_run_logger

    from tasks.nights import one_night
    from tasks.tonight import Tonight

    with disable_run_logger(), one_night(request) as night:
        for stage in stages:
            night.record(stage.fn.__wrapped__(Tonight(night)))


def _request(folder: Path, name: str, number: int, options: argparse.Namespace) -> Any:
    from tasks.nights import NightRequest

    size = [
        f"language_model.width={options.width}",
        f"language_model.layers={options.layers}",
        "language_model.vocabulary=4096",
        "language_model.steps=8",  # weights do not change the time
        f"samples.validation_fraction={HELD}",
        f"samples.test_fraction={HELD}",
        "lake.partition=year",
        "run.device=cpu",
    ]
    overrides = towns.overrides(folder, name, size=size)
    overrides.append(f"sources.root={folder / name / 'data'}")
    day = (START + timedelta(days=3000 + number)).date()
    return NightRequest(day=day, config=towns.DEMO, overrides=overrides)


def _peak() -> int:
    """Most bytes this process has held; getrusage would count those of the process that started it, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=48_000, help="train samples of the first night")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
