"""Three nights on a bundled synthetic log that grows every day."""

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from dealrec_core import settings
from dealrec_core.ingest import synthetic
from flows.nightly import nightly
from tasks.nights import NightRequest, NightSummary

CONFIG = "deployments/examples/demo.toml"
NIGHTS = (0, 7, 10)
"""Days of the log after which a night runs. In the first week many items are new, so a newly tuned model is better than the old one; three
days later the new model is still up to date."""


def start_anew() -> str:
    """Removes what an earlier demo has left, and returns the demo's folder."""
    home = settings.load(CONFIG).run.home
    shutil.rmtree(home, ignore_errors=True)
    return home


def three_nights() -> Iterator[NightSummary]:
    """Runs three nights on a growing log, and returns how each ended."""
    root, log = Path(settings.load(CONFIG).sources.root), synthetic.SyntheticConfig()
    for day in write_until_night(root, log):
        yield nightly(NightRequest(day=log.start + timedelta(days=day), config=CONFIG))


def write_until_night(root: Path, log: synthetic.SyntheticConfig) -> Iterator[int]:
    """Yields the day of each night, when the files of all days up to it are written."""
    for day in range(NIGHTS[-1] + 1):
        synthetic.write_day(root, day, log)
        if day in NIGHTS:
            yield day


def rows(summaries: list[NightSummary]) -> list[dict[str, str]]:
    """One row per fact, one column per night: what came in, what was chosen, who is champion, recall of each recommender."""
    facts: dict[str, list[str]] = {
        "rows new": [f"{summary.rows_new:,}" for summary in summaries],
        "samples": [f"{summary.samples:,}" for summary in summaries],
        "coreset": [str(summary.coreset) for summary in summaries],
        "version of the candidate": [f"{summary.version}, {summary.outcome}" for summary in summaries],
        "version of the champion": [summary.champion or "none" for summary in summaries],
        "recall@10: champion": [_champion_recall(summary) for summary in summaries],
    }
    for name in ("candidate", "surrogate", "popularity", "recent popularity", "item knn"):
        facts[f"recall@10: {name}"] = [f"{summary.recall[name]:.3f}" for summary in summaries]
    return [
        {
            "": fact,
            **{str(summary.day): value for summary, value in zip(summaries, values, strict=True)},
        }
        for fact, values in facts.items()
    ]


def comparison(summaries: list[NightSummary]) -> str:
    """Whether the last champion and the surrogate beat popularity, won or lost."""
    last = summaries[-1]
    popularity = last.recall["popularity"]
    entries = {"champion": float(_champion_recall(last)), "surrogate": last.recall["surrogate"]}
    told = [
        f"{name} {'beats' if value > popularity else 'LOSES to'} popularity ({value:.3f} against {popularity:.3f})"
        for name, value in entries.items()
    ]
    return f"recall@10 after three nights: {', '.join(told)}"


def _champion_recall(summary: NightSummary) -> str:
    return f"{summary.recall[summary.in_charge]:.3f}" if summary.in_charge in summary.recall else "nan"
