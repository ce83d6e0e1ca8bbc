"""Which epoch a tuning should keep, and how a promoted model should learn the newest days: `python benchmarks/tuning.py LAKE [LAKE ...]`.

LAKE: the lake of an arm of `benchmarks/thirty_nights.py --backend bigrec --folder FOLDER` (FOLDER/seed-0/product/lake). Every night of it
but the last is tuned again. Every epoch is measured on the validation samples that choose it, and on events of the next night's day, which
nothing has learnt. Then the model of the best epoch learns the held-out slices in three ways: the whole recipe `again` with them among
the samples, or `on` from the candidate with newest samples alone, or with as many known ones beside them (`known`).
Writes benchmarks/results/tuning.json: means, and differences paired by user with 95% intervals.
"""

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from benchmarks.machine import machine
from dealrec_core import schema
from dealrec_core.evaluation import ranking
from dealrec_core.evaluation.comparison import difference
from dealrec_core.lake import Lake
from dealrec_core.lake.nights import Night, nights
from dealrec_core.recommenders import bigrec_backend, bundle
from dealrec_core.recommenders.backend import ItemStatistics, OpenedBase
from dealrec_core.recommenders.bigrec import BIGRec, title_ndcg, title_places
from dealrec_core.samples import split
from dealrec_core.samples.split import Boundaries
from dealrec_core.settings.recommenders import BIGRecConfig
from tasks.beside import newest_samples, remembered
from tasks.stages.refit import _examples
from tasks.tonight import Tonight

RESULTS = Path(__file__).resolve().parent / "results" / "tuning.json"
METRICS = ("recall", "ndcg")
DEPTH = 10


def main() -> None:
    """Tunes every night again, prints a line for each epoch and way, and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lakes", nargs="+", metavar="LAKE")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    epochs: list[dict[str, Any]] = []
    tested: dict[str, list[pl.DataFrame]] = {}
    seconds: dict[str, float] = {}
    for lake in options.lakes:
        every = nights(Lake(lake))
        for night, after in itertools.pairwise(every):
            _night(night, after, epochs, tested, seconds)
    found = {"epochs": epochs, "ways": _compared(tested, seconds), "machine": machine()}
    options.results.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found["ways"], indent=1))


def _night(
    night: Night,
    after: Night,
    epochs: list[dict[str, Any]],
    tested: dict[str, list[pl.DataFrame]],
    seconds: dict[str, float],
) -> None:
    tonight, cases = Tonight(night), _next_day(night, after)
    coreset, config = tonight.coreset, tonight.config.algorithms
    learnt = [coreset, remembered(tonight, coreset), newest_samples(tonight, tonight.validation, coreset)]
    newest = tonight.validation.sort(split.kept_back(), schema.TIMESTAMP, schema.SAMPLE_ID)
    held, statistics = newest.tail(config.fine_tune.validation_examples), ItemStatistics(tonight.item_counts)
    base = tonight.base

    def measured(recommender: Any) -> pl.DataFrame:
        return ranking.evaluate(recommender, cases, config.evaluation)

    def note(model: Any, tokenizer: Any, places: np.ndarray) -> None:
        hits = places < DEPTH
        given = tokenizer, base.catalogue, statistics.popular, config.bigrec, statistics.popularity
        means = measured(BIGRec("epoch", model, *given)).select(METRICS).mean().row(0, named=True)
        ndcg = float((hits / np.log2(places + 2)).mean())
        row = {"validation recall": float(hits.mean()), "validation ndcg": ndcg, **means}
        epochs.append({"night": night.name, **{name: round(value, 4) for name, value in row.items()}})
        print(json.dumps(epochs[-1]), flush=True)

    bigrec_backend.title_ndcg = _noting(note)
    started = time.process_time()
    tuned = base.tune(pl.concat(learnt), held, statistics)
    bigrec_backend.title_ndcg = title_ndcg
    print(
        f"{night.name}: tuned in {time.process_time() - started:.0f} CPU s with what the epochs were measured in",
        flush=True,
    )
    tested.setdefault("candidate", []).append(measured(tuned.recommender))
    best = max(int(str(tuned.facts["best epoch"])), 1)
    fresh, known = _examples(tonight)
    held_out = newest_samples(tonight, pl.concat([tonight.validation, tonight.served.validation]), coreset)
    with tempfile.TemporaryDirectory() as folder:
        candidate = Path(folder) / "candidate"
        bundle.save(candidate, tuned.recommender, base=tuned.base, lineage={})
        on = config.model_copy(update={"fine_tune": config.fine_tune.model_copy(update={"start": "champion"})})
        ways: dict[str, tuple[Callable[[], OpenedBase], pl.DataFrame]] = {
            "again": (lambda: Tonight(night).served.base, pl.concat([*learnt[:2], held_out])),
            "on": (lambda: replace(Tonight(night).served.base, champion=candidate, settings=on), fresh),
            "known": (
                lambda: replace(Tonight(night).served.base, champion=candidate, settings=on),
                pl.concat([fresh, known]),
            ),
        }
        for name, (opened, examples) in ways.items():
            started = time.process_time()
            refitted = opened().tune(examples, held, ItemStatistics(tonight.served.item_counts), stop=best)
            seconds[name] = seconds.get(name, 0) + time.process_time() - started
            tested.setdefault(name, []).append(measured(refitted.recommender))


def _noting(note: Callable[[Any, Any, np.ndarray], None]) -> Callable[..., Callable[[Any], float]]:
    """The measure of the best epoch, which also notes each model that it measures."""

    def made(tokenizer: Any, examples: Any, titles: Any, config: BIGRecConfig) -> Callable[[Any], float]:
        places_of = title_places(tokenizer, examples, titles, config, DEPTH)
        by_place = title_ndcg(tokenizer, examples, titles, config)

        def quality(model: Any) -> float:
            note(model, tokenizer, places_of(model))
            return by_place(model)

        return quality

    return made


def _next_day(night: Night, after: Night) -> pl.DataFrame:
    """Users of the next night's new events, with their histories until this night."""
    start = Tonight(night).boundaries.end
    bounds = Boundaries(validation_start=start, test_start=start, end=Tonight(after).boundaries.end)
    length = night.config.samples.history_length
    return split.cases(Tonight(after).log.lazy(), bounds, history_length=length, users=None, seed=0)


def _compared(tested: dict[str, list[pl.DataFrame]], seconds: dict[str, float]) -> dict[str, Any]:
    """Means of each way, and its differences from `again`; a user's tests are added first."""
    totals = {
        name: pl.concat(parts).group_by(schema.USER_ID).agg(pl.col(*METRICS).sum(), pl.len()).sort(schema.USER_ID)
        for name, parts in tested.items()
    }
    reference = totals["again"]
    tests = int(reference["len"].sum())
    found: dict[str, Any] = {"tests": tests, "users": len(reference)}
    for name, total in totals.items():
        row: dict[str, Any] = {"CPU seconds": round(seconds[name])} if name in seconds else {}
        for metric in METRICS:
            gap = difference(total[metric].to_numpy(), reference[metric].to_numpy(), resamples=2000, seed=0)
            mean, low, high = (value * len(reference) / tests for value in (gap.mean, gap.low, gap.high))
            row |= {
                metric: round(float(total[metric].sum()) / tests, 4),
                f"{metric} minus again": f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]",
            }
        found[name] = row
    return found


if __name__ == "__main__":
    main()
