"""A day on which hardly anything happens, and one on which everything does."""

import shutil
from collections import Counter
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from prefect.artifacts import Artifact

from dealrec_core import schema
from dealrec_core.lake.nights import reopen
from tasks import progress
from tests.flows.conftest import LOG, Town, new_town

HUGE = 2500


@pytest.fixture(scope="module")
def days(town, tmp_path_factory) -> Town:
    """A copy of the town, so that its next days are ours."""
    place, _ = town
    folder = tmp_path_factory.mktemp("days") / "town"
    shutil.copytree(place.config.run.home, folder)
    return new_town(folder)


def write(place: Town, day: int, events: list[tuple[str, str]]) -> None:
    """A log of one day with these users and items, a second apart."""
    start = (LOG.start + timedelta(days=day)).toordinal() - 719_163  # days since 1970
    lines = [f"{user},{item},5,{start * 86_400 + second}\n" for second, (user, item) in enumerate(events)]
    text = "userId,itemId,rating,timestamp\n" + "".join(lines)
    (Path(place.config.sources.root) / "log" / f"day{day}.csv").write_text(text)


def test_a_tiny_day_and_a_huge_one_end_as_any_other_and_drift_is_recorded(days, monkeypatch):
    log = days.lake.scan("interactions").collect()
    users, items = (sorted(log[name].unique()) for name in (schema.USER_ID, schema.ITEM_ID))
    known = len(log)

    write(days, 2, [(users[0], items[0])])
    tiny = days.night(2)
    assert (tiny.outcome in ("promoted", "rejected", "unchanged"), tiny.rows_new) == (True, 1)
    night = reopen(tiny.night, days.lake)
    assert night.need("samples").facts["new or changed"] == 1
    assert night.need("effort").rows <= 2  # the new sample, and one that left a held-out slice
    assert night.need("surrogate").facts["full retrain"] == "no"

    random = np.random.default_rng(0)
    pairs = [
        (users[u], items[i])
        for u, i in zip(*(random.integers(len(each), size=HUGE) for each in (users, items)), strict=True)
    ]
    write(days, 3, pairs)
    monkeypatch.setattr(progress, "EVERY_S", 0)
    moved: Counter[str] = Counter()
    create = progress.create_progress_artifact
    monkeypatch.setattr(
        progress,
        "create_progress_artifact",
        lambda *given, key, **more: (moved.update([key]), create(*given, key=key, **more))[1],
    )
    huge = days.night(3)
    assert (huge.outcome in ("promoted", "rejected", "unchanged"), huge.rows_new) == (True, HUGE)
    night = reopen(huge.night, days.lake)
    assert night.need("ingest").facts["rows in the lake"] == known + 1 + HUGE
    facts = night.need("surrogate").facts
    before = reopen(tiny.night, days.lake).need("surrogate").facts
    lost = facts["share lost by the warm start"]
    assert lost > days.config.surrogate.drift_tolerance  # what comes next is now random
    assert facts["full retrain"].startswith("forced by drift")
    best = max(facts["ndcg@10 from scratch"], (1 - lost) * before["reference ndcg@10"])
    assert facts["reference ndcg@10"] == facts["validation ndcg@10"] == pytest.approx(best, abs=1e-4)
    page = days.lake.read_bytes(f"nights/{night.name}/report.html").decode()
    assert "a full retrain was forced by drift" in page
    for stage in ("surrogate", "effort", "fine-tune", "evaluation"):
        assert moved[f"{stage}-progress"] >= 1
        assert Artifact.get(f"{stage}-progress") is None  # what has ended leaves no bar behind
