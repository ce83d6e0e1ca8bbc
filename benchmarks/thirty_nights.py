"""Many nights on a log that drifts: the champion against other coresets, everything tuned, no refit, and the first model for ever.

    python benchmarks/thirty_nights.py                                        # 30 nights, three seeds, TIGER: hours
    python benchmarks/thirty_nights.py --nights 6 --seeds 0 --arms product judged --backend bigrec
    python benchmarks/thirty_nights.py --log movielens --data FOLDER          # 30 of its last active days

Every arm is the whole product, with a lake of its own and the same log. After the nights, each arm's model in charge after night t is
tested on what users took between night t and t + 1, with their histories up to night t: nothing had learnt these events then.
Writes benchmarks/results/thirty_nights.json: recall@10 and NDCG@10 over all these tests, paired differences with 95% intervals over
users (a user's tests are added first), and tokens of tuning.
"""

import argparse
import itertools
import json
import resource
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks import town
from benchmarks.machine import machine
from dealrec_core import schema
from dealrec_core.errors import DataError
from dealrec_core.evaluation import ranking
from dealrec_core.evaluation.comparison import difference
from dealrec_core.ingest import synthetic
from dealrec_core.lake import Lake, promotions
from dealrec_core.lake.nights import nights
from dealrec_core.samples import split
from dealrec_core.samples.split import Boundaries

RESULTS = town.ROOT / "benchmarks" / "results" / "thirty_nights.json"
DAYS = "days.json"
MOVIELENS = str(town.ROOT / "deployments" / "examples" / "movielens.toml")
ARMS: dict[str, list[str]] = {
    "product": [],
    "judged": ["fine_tune.refit=0"],
    "targeted": ["coreset.method=targeted"],
    "random": ["coreset.method=random"],
    "everything": ["coreset.ratio=1.0", "fine_tune.memory=0"],
}
"""Settings of each arm. `judged` serves what the gate has judged; `first` is the first model of `product`, for ever."""


def main() -> None:
    """Runs every seed and arm one after the other, prints the table and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--backend", choices=["tiger", "bigrec"], default="tiger")
    parser.add_argument("--log", choices=["synthetic", "movielens"], default="synthetic")
    parser.add_argument("--data", type=Path, help="folder with ratings.csv and movies.csv of MovieLens")
    parser.add_argument("--set", nargs="*", default=[], help="more settings for every arm")
    parser.add_argument("--folder", help="keeps lakes and server there")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    asked = {name: str(value) for name, value in vars(options).items() if name not in ("folder", "results", "data")}
    found: dict[str, Any] = {"options": asked, "seeds": {}}
    with town.folder(options.folder) as folder, town.prefect_server(folder):
        for seed in options.seeds:
            place = folder / f"seed-{seed}"
            place.mkdir(exist_ok=True)
            town.in_child(_write_days, options, place, seed)  # polars starts threads, which no fork survives
            days = [date.fromisoformat(day) for day in json.loads((place / DAYS).read_text())]
            for arm in options.arms:
                town.in_child(_nights, place, arm, days, options, seed)
            result = place / "result.json"
            town.in_child(_judge, place, options.arms, result)
            found["seeds"][seed] = json.loads(result.read_text())
            found["machine"] = machine()
            print(json.dumps({seed: found["seeds"][seed]}, indent=1), flush=True)
            options.results.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _write_days(options: argparse.Namespace, place: Path, seed: int) -> None:
    (place / DAYS).write_text(json.dumps([str(day) for day in _days(options, place, seed)]))


def _days(options: argparse.Namespace, place: Path, seed: int) -> list[date]:
    """The days of the nights, one more than asked for: the last one only tests. The synthetic log is written."""
    if options.log == "synthetic":
        log = synthetic.SyntheticConfig(seed=seed)
        for number in range(options.nights + 1):
            synthetic.write_day(place / "data", number, log)
        return [log.start + timedelta(days=number) for number in range(options.nights + 1)]
    ratings = pl.scan_csv(options.data / "ratings.csv")
    moments = ratings.select(pl.from_epoch("timestamp").dt.date().alias("day")).unique().sort("day").collect()["day"]
    later = moments[len(moments) // 2 :]  # the first night has half of the active days
    places = np.linspace(0, len(later) - 1, options.nights + 1).round().astype(int)
    return [later[int(row)] for row in places]


def _overrides(place: Path, arm: str, options: argparse.Namespace, seed: int) -> list[str]:
    home = place / arm
    data = place / "data" if options.log == "synthetic" else options.data
    return [
        f"sources.root={data}",
        f"run.home={home}",
        f"lake.root={home}/lake",
        f"run.seed={seed}",
        f"registry.tracking_uri=sqlite:///{home}/mlflow.db",
        f"registry.artifacts={home}/artifacts",
        f"recommender.backend={options.backend}",
        *ARMS[arm],
        *options.set,
    ]


def _nights(place: Path, arm: str, days: Sequence[date], options: argparse.Namespace, seed: int) -> None:
    from flows.nightly import nightly
    from tasks.nights import NightRequest

    (place / arm).mkdir(exist_ok=True)
    config = town.DEMO if options.log == "synthetic" else MOVIELENS
    for day in days:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        summary = nightly(NightRequest(day=day, config=config, overrides=_overrides(place, arm, options, seed)))
        seconds = round(resource.getrusage(resource.RUSAGE_SELF).ru_utime - before)
        print(place.name, arm, day, summary.outcome, f"{seconds} CPU s;", summary.message, flush=True)


def _judge(place: Path, arms: Sequence[str], result: Path) -> None:
    """Tests every model in charge on what came after its night."""
    tested = {arm: _tested(Lake(f"{place}/{arm}/lake"), first=False) for arm in arms}
    tested["first"] = _tested(Lake(f"{place}/{arms[0]}/lake"), first=True)
    totals = {
        arm: frame.group_by(schema.USER_ID).agg(pl.col("recall", "ndcg").sum(), pl.len())
        for arm, frame in tested.items()
    }
    found: dict[str, Any] = {"tests": len(tested["first"]), "users": totals["first"].height, "arms": {}}
    reference = totals[arms[0]].sort(schema.USER_ID)
    for arm, frame in tested.items():
        row: dict[str, Any] = {metric: round(float(frame[metric].mean()), 4) for metric in ("recall", "ndcg")}  # type: ignore[arg-type]
        row |= {
            "by night": [
                round(value, 3)
                for value in frame.group_by("day", maintain_order=True).agg(pl.col("recall").mean())["recall"]
            ]
        }
        other = totals[arm].sort(schema.USER_ID)
        scale = len(other) / len(frame)  # from sums of users to a mean of tests
        for metric in ("recall", "ndcg"):
            gap = difference(reference[metric].to_numpy(), other[metric].to_numpy(), resamples=2000, seed=0)
            row[f"{arms[0]} minus this, {metric}"] = (
                f"{gap.mean * scale:+.4f} [{gap.low * scale:+.4f}, {gap.high * scale:+.4f}]"
            )
        if arm in arms:
            row |= _cost(Lake(f"{place}/{arm}/lake"))
        found["arms"][arm] = row
    result.write_text(json.dumps(found))


def _cost(lake: Lake) -> dict[str, Any]:
    tuned = [night.find("fine_tune") for night in nights(lake)]
    again = [record for night in nights(lake) if (record := night.find("refit")) and "tokens" in record.facts]
    tokens = sum(int(str(record.facts["tokens"])) for record in tuned if record)
    return {
        "tokens": tokens,
        "tokens of refits": sum(int(str(record.facts["tokens"])) for record in again),
        "outcomes": [
            str(promotions.outcome(record.facts)) for night in nights(lake) if (record := night.find("promotion"))
        ],
    }


def _tested(lake: Lake, *, first: bool) -> pl.DataFrame:
    """Recall and NDCG of the model in charge after each night on the events up to the next: user, day."""
    import torch

    from dealrec_core.recommenders import bundle
    from tasks import storage
    from tasks.tonight import Tonight

    finished = [night for night in nights(lake) if night.find("promotion")]
    reigns = promotions.decisions(lake).filter(pl.col("action").is_in(promotions.IN_CHARGE))
    parts = []
    for before, after in itertools.pairwise(finished):
        version = str(before.need("promotion").facts["champion"])
        decided = reigns.head(1) if first else reigns.filter(version=version)
        if decided.is_empty():
            continue
        path = str(decided["bundle"][-1])
        folder = storage.local_copy(lake, path, home=before.config.run.home)
        model = bundle.load(folder, device=torch.device("cpu"), name="champion")
        tonight, start = Tonight(after), Tonight(before).boundaries.end
        bounds = Boundaries(validation_start=start, test_start=start, end=tonight.boundaries.end)
        length = before.config.samples.history_length
        try:
            cases = split.cases(tonight.log.lazy(), bounds, history_length=length, users=None, seed=0)
        except DataError:
            continue
        part = ranking.evaluate(model, cases, before.config.algorithms.evaluation)
        parts.append(part.with_columns(pl.lit(after.day).alias("day")))
    return pl.concat(parts)


if __name__ == "__main__":
    main()
