"""Three nights on a bundled synthetic log that grows every day."""

import shutil
from datetime import timedelta
from pathlib import Path

from dealrec_core import settings
from dealrec_core.ingest import synthetic
from flows.nightly import nightly
from tasks.nights import NightRequest, NightSummary

CONFIG = "deployments/examples/demo.toml"


def three_nights() -> list[NightSummary]:
    """Runs three nights on a log that starts anew, and returns how each ended."""
    config = settings.load(CONFIG)
    log = synthetic.SyntheticConfig()
    shutil.rmtree(config.run.home, ignore_errors=True)
    summaries = []
    for number in range(3):
        synthetic.write_day(Path(config.sources.root), number, log)
        day = log.start + timedelta(days=number)
        summaries.append(nightly(NightRequest(day=day, config=CONFIG)))
    return summaries


def table(summaries: list[NightSummary]) -> list[dict[str, str]]:
    """One row per fact, one column per night: what came in, what was chosen, who is champion, recall of each recommender."""
    facts: dict[str, list[str]] = {
        "rows new": [f"{summary.rows_new:,}" for summary in summaries],
        "samples": [f"{summary.samples:,}" for summary in summaries],
        "coreset": [str(summary.coreset) for summary in summaries],
        "candidate": [f"version {summary.version}, {summary.outcome}" for summary in summaries],
        "champion": [f"version {summary.champion}" if summary.champion else "none" for summary in summaries],
        "recall@10 of the champion": [_champion_recall(summary) for summary in summaries],
    }
    for name in ("candidate", "surrogate", "popularity", "recent popularity", "item knn"):
        facts[f"recall@10 of {name}"] = [f"{summary.recall[name]:.3f}" for summary in summaries]
    return [
        {"": fact, **{str(summary.day): value for summary, value in zip(summaries, values, strict=True)}}
        for fact, values in facts.items()
    ]


def comparisons(summaries: list[NightSummary]) -> list[str]:
    """Whether the last champion and the surrogate beat popularity, won or lost."""
    last = summaries[-1]
    popularity = last.recall["popularity"]
    entries = {"champion": float(_champion_recall(last)), "surrogate": last.recall["surrogate"]}
    return [
        f"{name} {'beats' if value > popularity else 'LOSES to'} popularity: recall@10 {value:.3f} against {popularity:.3f}"
        for name, value in entries.items()
    ]


def _champion_recall(summary: NightSummary) -> str:
    return f"{summary.recall[summary.in_charge]:.3f}" if summary.in_charge in summary.recall else "nan"
