"""The demo's three nights on logs of several seeds: `python benchmarks/demo_seeds.py --seeds 0 1 2`.

For every night: recall@10 of candidate, champion, surrogate and the best plain baseline, and the verdict. For the last night: the
champion minus the surrogate, paired by user, with a 95% interval. Writes benchmarks/results/demo_seeds.json.
"""

import argparse
import json
import resource
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks import town
from benchmarks.machine import machine
from dealrec_core import schema
from dealrec_core.evaluation.comparison import difference
from dealrec_core.ingest import synthetic
from dealrec_core.lake import Lake
from flows import demo
from tasks.nights import NightRequest, NightSummary

RESULTS = town.ROOT / "benchmarks" / "results" / "demo_seeds.json"
PLAIN = ("popularity", "recent popularity", "item knn")


def main() -> None:
    """Runs the seeds one after the other, prints the table and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", nargs="*", default=[], help="more settings for every night")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    found: dict[str, Any] = {"seeds": {}}
    with tempfile.TemporaryDirectory() as folder, town.prefect_server(Path(folder)):
        for seed in options.seeds:
            result = Path(folder) / f"{seed}.json"
            town.in_child(_nights, seed, Path(folder) / f"seed-{seed}", result, options.set)
            found["seeds"][seed] = json.loads(result.read_text())
            print(json.dumps({seed: found["seeds"][seed]}, indent=1), flush=True)
    found["machine"] = machine()
    options.results.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _nights(seed: int, home: Path, result: Path, more: list[str]) -> None:
    from flows.nightly import nightly

    log = synthetic.SyntheticConfig(seed=seed)
    overrides = [f"sources.root={home}/data", *town.overrides(home, "town", size=[])[:2]]
    overrides += [f"registry.tracking_uri=sqlite:///{home}/mlflow.db", f"registry.artifacts={home}/artifacts", *more]
    home.mkdir()
    rows = []
    for number in demo.write_until_night(home / "data", log):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        day = log.start + timedelta(days=number)
        summary = nightly(NightRequest(day=day, config=town.DEMO, overrides=overrides))
        rows.append(_row(summary) | {"cpu seconds": round(resource.getrusage(resource.RUSAGE_SELF).ru_utime - before)})
    lake = Lake(f"{home}/town/lake")
    result.write_text(json.dumps({"nights": rows, "champion minus surrogate": _gap(lake, summary)}))


def _row(summary: NightSummary) -> dict[str, Any]:
    return {
        "outcome": summary.outcome,
        "coreset": summary.coreset,
        "candidate": summary.recall["candidate"],
        "champion after the verdict": summary.recall.get(summary.in_charge or ""),
        "surrogate": summary.recall["surrogate"],
        "best plain baseline": max(summary.recall[name] for name in PLAIN),
        "verdict": summary.message,
    }


def _gap(lake: Lake, last: NightSummary) -> str:
    """Recall of the model in charge after the last night minus that of the surrogate."""
    users = lake.scan("evaluations").filter(pl.col(schema.NIGHT) == last.night).collect()
    ours, theirs = (
        users.filter(pl.col("recommender") == name).sort(schema.USER_ID)["recall"].to_numpy()
        for name in (last.in_charge, "surrogate")
    )
    gap = difference(ours, theirs, resamples=2000, seed=0)
    return f"{gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}], {len(ours)} users"


if __name__ == "__main__":
    main()
