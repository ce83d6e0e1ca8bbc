"""Nights with 1% more rows each: the surrogate that learns new samples alone, the one that passes over the whole log, and their influence.

    python benchmarks/surrogate_nights.py --seeds 0 1 2                       # MovieLens-small, half an hour
    python benchmarks/surrogate_nights.py --log synthetic --seeds 0 1 2       # the demo's log
    python benchmarks/surrogate_nights.py --log scale --seeds 0               # 200,000 rows of benchmarks/scale.py; without influence

A surrogate is trained on the first part of the log, and then five nights follow. Four surrogates are compared on each night's test slice:
`held` is never trained again, `whole` passes over the whole train slice every night, `new` over the windows of new samples and as many
others, as a night over a large log does, and `targets` learns the targets of new samples and of as many others alone. Then influence is
scored on the last night's samples at the weights of each, of one that is trained from scratch that day, and of a second one from scratch
that differs by its seed alone; and by `held` on the risk samples of the day before the nights.
Writes benchmarks/results/surrogate_nights.json.
"""

import argparse
import json
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from scipy.stats import spearmanr

from benchmarks import scale
from benchmarks.calibration import _ratings
from benchmarks.machine import machine
from dealrec_core import influence, schema
from dealrec_core.ingest import synthetic
from dealrec_core.samples import split
from dealrec_core.samples.contents import differences
from dealrec_core.samples.sequences import Sequences, encode
from dealrec_core.settings.influence import InfluenceConfig
from dealrec_core.settings.samples import SamplesConfig
from dealrec_core.settings.surrogate import SurrogateConfig
from dealrec_core.surrogate import training

RESULTS = Path(__file__).resolve().parent / "results" / "surrogate_nights.json"
LENGTH, NIGHTS, STEP = 10, 5, 0.01
LARGE_ROWS = 200_000
CONFIG = SurrogateConfig(history_length=LENGTH, width=32, layers=1)
SLICES: tuple[split.Split, ...] = ("train", "validation", "test")


def main() -> None:
    """Runs every seed and writes the results after each, beside those of the other log."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--log", choices=["movielens", "synthetic", "scale"], default="movielens")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    log = {"movielens": _ratings, "synthetic": _demo, "scale": _large}[options.log]()
    log = log.sort(schema.TIMESTAMP, schema.EVENT_ID)
    found = {}
    for seed in options.seeds:
        found[str(seed)] = _nights(log, seed, with_influence=options.log != "scale")
        print(seed, json.dumps(found[str(seed)], indent=1), flush=True)
        results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
        results[options.log] = {"rows": len(log), "seeds": found, "machine": machine()}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _demo() -> pl.DataFrame:
    """The demo's log up to its tenth day."""
    events = [event for day in synthetic.events(10, synthetic.SyntheticConfig()) for event in day]
    log = pl.DataFrame(
        [(str(event.user), f"{event.series}-{event.part}", event.time, str(row)) for row, event in enumerate(events)],
        schema=[schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP, schema.EVENT_ID],
        orient="row",
    )
    return log.with_columns(pl.col(schema.TIMESTAMP).cast(schema.UTC_TIME))


def _large() -> pl.DataFrame:
    """The log of a first night of benchmarks/scale.py."""
    log = scale.first_log(LARGE_ROWS)
    return log.select(
        pl.col("userId").alias(schema.USER_ID),
        pl.col("itemId").alias(schema.ITEM_ID),
        pl.from_epoch("timestamp").cast(schema.UTC_TIME).alias(schema.TIMESTAMP),
        pl.int_range(pl.len()).cast(pl.String).alias(schema.EVENT_ID),
    )


def _nights(log: pl.DataFrame, seed: int, *, with_influence: bool) -> dict[str, Any]:
    item_ids = log[schema.ITEM_ID].unique().sort().to_list()
    fit: dict[str, Any] = {"item_count": len(item_ids), "config": CONFIG}
    until = 1 - NIGHTS * STEP
    train, risk, _ = frames = _slices(log[: int(len(log) * until)])
    first, seconds = _timed(frames, item_ids, seed=seed, **fit)
    models = dict.fromkeys(("held", "whole", "new", "targets"), first)
    nights, spent = [], {"first training": seconds, "whole": 0.0, "new": 0.0, "targets": 0.0}
    for number in range(1, NIGHTS + 1):
        before = train
        train, *_ = frames = _slices(log[: int(len(log) * (until + number * STEP))])
        added, _ = differences(before, train.with_row_index("row"))
        rows = added["row"].to_numpy()
        ways: dict[str, dict[str, Any]] = {
            "whole": {},
            "new": {"new_rows": rows},
            "targets": {"alone": True, "part": _with_as_many_others(rows, len(train), seed=seed + number)},
        }
        for name, own in ways.items():
            models[name], seconds = _timed(frames, item_ids, initial=models[name], seed=seed + number, **own, **fit)
            spent[name] += seconds
        test = encode(frames[2], item_ids)
        nights.append({name: _ndcg(model, test) for name, model in models.items()})
    found = {
        "CPU seconds": {name: round(value, 1) for name, value in spent.items()},
        "test NDCG@10 by night": nights,
    }
    if not with_influence:
        return found
    models["scratch"], models["another seed"] = (
        _timed(frames, item_ids, seed=seed + 100 * k, **fit)[0] for k in (1, 2)
    )
    test = encode(frames[2], item_ids)
    return found | {
        "from scratch on the last day": [_ndcg(models[name], test) for name in ("scratch", "another seed")],
        "spearman of influence": {
            name: _agreement(models, frames, risk, item_ids, name) for name in ("loss", "ranking")
        },
    }


def _slices(log: pl.DataFrame) -> list[pl.DataFrame]:
    bounds = split.boundaries(log.lazy(), SamplesConfig(), not_before=None)
    samples = split.build(log.lazy(), SamplesConfig(history_length=LENGTH))
    return [split.split(samples.lazy(), bounds, name).collect() for name in SLICES]


def _with_as_many_others(rows: np.ndarray, count: int, *, seed: int) -> np.ndarray:
    others = np.random.default_rng(seed).permutation(np.setdiff1d(np.arange(count), rows))
    return np.sort(np.concatenate([rows, others[: len(rows)]]))


def _timed(
    frames: list[pl.DataFrame], item_ids: list[str], part: np.ndarray | None = None, **options: Any
) -> tuple[Any, float]:
    """The surrogate trained on these frames, or on these rows of the first, and its CPU seconds."""
    train, validation = (encode(frame, item_ids) for frame in frames[:2])
    start = time.process_time()
    model = training.train(train if part is None else train.take(part), validation, **options).model
    return model, time.process_time() - start


def _ndcg(model: Any, samples: Sequences) -> float:
    places = training.ranks(model, samples)
    return round(float(np.where(places < 10, 1 / np.log2(places + 2), 0.0).mean()), 4)


def _agreement(
    models: dict[str, Any], frames: list[pl.DataFrame], old_risk: pl.DataFrame, item_ids: list[str], objective: str
) -> dict[str, float]:
    train, risk = (encode(frame, item_ids) for frame in frames[:2])
    config = InfluenceConfig(objective=objective)  # type: ignore[arg-type]
    asked = {name: (model, risk) for name, model in models.items()}
    asked["held, old risk"] = models["held"], encode(old_risk, item_ids)
    scores = {
        name: influence.score(model, train, aims, config=config, seed=0).scores for name, (model, aims) in asked.items()
    }
    return {
        f"{a} and {b}": round(float(spearmanr(scores[a], scores[b]).statistic), 3) for a, b in combinations(scores, 2)
    }


if __name__ == "__main__":
    main()
