"""Retrains the surrogate, from last night's weights where there are any."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from dealrec_core.errors import LakeError
from dealrec_core.lake.nights import Fact, Night, Snapshot
from dealrec_core.samples.contents import differences
from dealrec_core.samples.sequences import Sequences, encode
from dealrec_core.settings import Config
from dealrec_core.surrogate import checkpoint, drift, training
from dealrec_core.surrogate.recommender import SurrogateRecommender
from dealrec_core.surrogate.training import Trained
from tasks import storage
from tasks.calibrated import calibrated
from tasks.naming import naming
from tasks.progress import shown
from tasks.stage import stage
from tasks.tonight import Tonight

REFERENCE = "reference ndcg@10"
KEPT = "forced by drift, and used"
BESIDE = "forced by drift, but the warm start is better and is used"
GENERATION, SINCE = "generation began in", "new samples since then"
LARGE = 100_000
"""Train samples up to which every night passes over all of them, which takes seconds."""


@dataclass(frozen=True)
class Generation:
    """Surrogates that train on one another while few samples are new; influence is scored at the weights of the first."""

    began: str
    """Night of the first."""
    new: int = 0
    """Train samples that joined since then."""
    rows: np.ndarray | None = None
    """Rows of the train samples that tonight learns; None for all."""


@stage("surrogate")
def retrain_surrogate(tonight: Tonight) -> Snapshot:
    """Writes the folder `models/surrogate/<night>`: trained on the train slice, stopped by the validation slice."""
    config, night = tonight.config, tonight.night.name
    before, last = _last_surrogate(config, tonight.night.earlier)
    start, known_ids = (None, []) if last is None else tonight.load_surrogate(last)
    known = set(known_ids)
    new_ids = [item for item in tonight.known_catalogue.item_ids if item not in known]
    item_ids = [*known_ids, *new_ids]
    slices = [encode(samples, item_ids) for samples in (tonight.train, tonight.validation)]
    reference = None if last is None else last.facts.get(REFERENCE)
    options = {"item_count": len(item_ids), "config": config.algorithms.surrogate, "seed": config.run.seed}
    generation = _generation(tonight, before, last)
    with naming(tonight.train):
        trained, drifted = _trained(slices, start, reference, generation.rows, device=str(tonight.device), **options)
    started_from = None if last is None or drifted["full retrain"] == KEPT else last.path
    generation = generation if started_from else Generation(night)
    path, lineage = f"models/surrogate/{night}", {"night": night, "started_from": started_from}
    recommender, calibration = calibrated(tonight, SurrogateRecommender(trained.model, item_ids))
    with storage.publishing(tonight.lake, path) as published:
        checkpoint.save(
            published.folder,
            trained.model,
            item_ids=item_ids,
            config=config.algorithms.surrogate,
            lineage=lineage,
            calibrated=recommender.calibration,
        )
    facts: dict[str, Fact] = {
        "started from": started_from or "scratch",
        "items": len(item_ids),
        "items new": len(new_ids),
        GENERATION: generation.began,
        SINCE: generation.new,
        "learns": "all samples" if generation.rows is None else f"{len(generation.rows)} new samples",
        "epochs": trained.epochs,
        "best epoch": trained.best.epoch,
        "validation ndcg@10": round(trained.best.ndcg, 4),
        **drifted,
        **calibration,
    }
    return Snapshot(stage="surrogate", path=path, sha256=published.sha256, rows=len(item_ids), facts=facts)


def _trained(
    slices: list[Sequences], start: Any | None, reference: Fact, new_rows: np.ndarray | None, **options: Any
) -> tuple[Trained, dict[str, Fact]]:
    """The surrogate on tonight's train and validation slice, and the facts about drift."""
    with shown("surrogate", "epochs at most") as progress:
        if start is None:
            trained = training.train(*slices, progress=progress, **options)
            return trained, {REFERENCE: round(trained.best.ndcg, 4), "full retrain": "no: the first training"}
        before = None if reference is None else float(reference)
        followed = drift.follow(
            *slices, initial=start, reference=before, new_rows=new_rows, progress=progress, **options
        )
    facts: dict[str, Fact] = {
        REFERENCE: round(followed.reference, 4),
        "share lost by the warm start": round(followed.lost, 4),
        "full retrain": "no",
    }
    if followed.scratch is not None:
        facts["full retrain"] = KEPT if followed.trained is followed.scratch else BESIDE
        facts["ndcg@10 from scratch"] = round(followed.scratch.best.ndcg, 4)
    return followed.trained, facts


def _generation(tonight: Tonight, before: Night | None, last: Snapshot | None) -> Generation:
    """The last surrogate's generation, or a new one: where there is none, its samples are gone, or too many are new since it began."""
    begins = Generation(tonight.night.name)
    if before is None or last is None or GENERATION not in last.facts:
        return begins
    try:
        added, _ = differences(Tonight(before).train, tonight.train.with_row_index("row"))
    except (LakeError, OSError, pl.exceptions.PolarsError):
        return begins
    new = int(str(last.facts[SINCE])) + len(added)
    if new > tonight.config.surrogate.most_new * len(tonight.train):
        return begins
    rows = added["row"].to_numpy() if len(tonight.train) > LARGE else None
    return Generation(str(last.facts[GENERATION]), new, rows)


def _last_surrogate(config: Config, earlier: list[Night]) -> tuple[Night, Snapshot] | tuple[None, None]:
    """The newest earlier night with tonight's surrogate settings, and its record; None where there is none to start from."""
    settings = config.algorithms.surrogate
    alike = (night for night in reversed(earlier) if night.config.algorithms.surrogate == settings)
    records = ((night, night.find("surrogate")) for night in alike)
    return next(((night, record) for night, record in records if record is not None), (None, None))
