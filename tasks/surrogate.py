"""Retrains the surrogate, from last night's weights where there are any."""

import tempfile
from pathlib import Path
from typing import Any

from dealrec_core.lake.nights import Fact, Night, Snapshot
from dealrec_core.samples import sequences
from dealrec_core.surrogate import checkpoint, drift, training
from dealrec_core.surrogate.training import Trained
from tasks import storage
from tasks.catalogue import known_catalogue
from tasks.ingest import samples_of
from tasks.progress import shown
from tasks.stage import device, stage

REFERENCE = "reference ndcg@10"
KEPT = "forced by drift, and kept"
BESIDE = "forced by drift, but the warm start is better and is kept"


@stage("surrogate")
def retrain(night: Night) -> Snapshot:
    """Folder `models/surrogate/<night>`: the surrogate, trained on the train slice and stopped by the validation slice."""
    where = str(device(night))
    earlier = _last_surrogate(night)
    start, item_ids = (None, []) if earlier is None else _load(night, earlier, where)
    fresh = [item for item in known_catalogue(night).item_ids if item not in set(item_ids)]
    item_ids = [*item_ids, *fresh]
    trained, drifted = _trained(night, item_ids, start, None if earlier is None else earlier.facts.get(REFERENCE))
    started_from = None if earlier is None or drifted["full retrain"] == KEPT else earlier.path
    path = f"models/surrogate/{night.name}"
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(
            Path(folder),
            trained.model,
            item_ids=item_ids,
            config=night.config.surrogate,
            lineage={"night": night.name, "started_from": started_from},
        )
        sha256 = storage.publish(night.lake, Path(folder), path)
    facts: dict[str, Fact] = {
        "started from": started_from or "scratch",
        "items": len(item_ids),
        "items new": len(fresh),
        "epochs": trained.epochs,
        "best epoch": trained.best.epoch,
        "validation ndcg@10": round(trained.best.ndcg, 4),
        **drifted,
    }
    return Snapshot(stage="surrogate", path=path, sha256=sha256, rows=len(item_ids), facts=facts)


def _trained(night: Night, item_ids: list[str], start: Any | None, reference: Fact) -> tuple[Trained, dict[str, Fact]]:
    """The surrogate on tonight's slices, and what is to be told about drift."""
    slices = [sequences.encode(samples_of(night, which), item_ids) for which in ("train", "validation")]
    settings: dict[str, Any] = {
        "item_count": len(item_ids),
        "config": night.config.surrogate,
        "seed": night.config.run.seed,
        "device": str(device(night)),
    }
    before = None if reference is None else float(reference)
    with shown("surrogate", "epochs at most") as progress:
        if start is None:
            trained = training.train(*slices, progress=progress, **settings)
            return trained, {REFERENCE: round(trained.best_ndcg, 4), "full retrain": "no: the first training"}
        found = drift.follow(*slices, initial=start, reference=before, progress=progress, **settings)
    told: dict[str, Fact] = {
        REFERENCE: round(found.reference, 4),
        "share lost by the warm start": round(found.lost, 4),
        "full retrain": "no",
    }
    if found.scratch is not None:
        told["full retrain"] = BESIDE if found.is_warm else KEPT
        told["ndcg@10 from scratch"] = round(found.scratch.best_ndcg, 4)
    return found.trained, told


def surrogate_of(night: Night) -> tuple[Any, list[str]]:
    """This night's surrogate on the device of the settings, and the item id of each row of its table."""
    return _load(night, night.need("surrogate"), str(device(night)))


def _load(night: Night, snapshot: Snapshot, where: str) -> tuple[Any, list[str]]:
    folder = storage.local_copy(night.lake, str(snapshot.path), home=night.config.run.home)
    model, item_ids, _ = checkpoint.load(folder, device=where)
    return model, item_ids


def _last_surrogate(night: Night) -> Snapshot | None:
    """The newest surrogate of an earlier night with the same surrogate settings, None where there is none to start from."""
    if not night.config.run.warm_start:
        return None
    for earlier in reversed(night.earlier):
        found = earlier.find("surrogate") if earlier.config.surrogate == night.config.surrogate else None
        if found is not None:
            return found
    return None
