"""Three nights on a bundled synthetic log that grows every day."""

import shutil
from datetime import timedelta
from pathlib import Path

from dealrec_core import settings, synthetic
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


def table(summaries: list[NightSummary]) -> list[dict[str, str | int | None]]:
    """One row per night: what came in, what was chosen, who is champion and how well each recommender does."""
    return [
        {
            "night": str(summary.day),
            "rows new": summary.rows_new,
            "samples": summary.samples,
            "coreset": summary.coreset,
            "outcome": summary.outcome,
            "champion": summary.champion,
            "champion recall": _champion_recall(summary),
            **{name: f"{summary.recall[name]:.3f}" for name in ("candidate", "surrogate", "popularity", "recent popularity", "item knn") if name in summary.recall},
        }
        for summary in summaries
    ]


def _champion_recall(summary: NightSummary) -> str | None:
    """Recall on the held-out users of the model in charge after the night."""
    name = "candidate" if summary.outcome == "promoted" else "champion"
    return f"{summary.recall[name]:.3f}" if name in summary.recall else None
