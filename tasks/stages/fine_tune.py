"""Tunes tonight's model on the coreset and packs it as a recommender that anyone can load."""

import polars as pl

from dealrec_core import schema
from dealrec_core.lake.nights import Fact, Snapshot
from dealrec_core.recommenders import bundle
from dealrec_core.recommenders.backend import BASE, ItemStatistics
from dealrec_core.samples import split
from tasks import storage
from tasks.beside import newest_samples, remembered
from tasks.calibrated import calibrated
from tasks.progress import shown
from tasks.stage import stage
from tasks.tonight import Tonight


@stage("fine_tune")
def fine_tune(tonight: Tonight) -> Snapshot:
    """Writes the folder `models/recommender/<night>`: model, catalogue and settings, which load by themselves."""
    config, name, chosen = tonight.config, tonight.night.name, tonight.coreset
    remembered_samples, recent = remembered(tonight, chosen), newest_samples(tonight, tonight.validation, chosen)
    trained_through, folder = tonight.boundaries.test_start, tonight.checkpoints("fine_tune")
    # The newest of those that no model learns come last.
    newest = tonight.validation.sort(split.kept_back(), schema.TIMESTAMP, schema.SAMPLE_ID)
    latest = newest.tail(config.algorithms.fine_tune.validation_examples)
    items = ItemStatistics(tonight.item_counts)
    examples = pl.concat([chosen, remembered_samples, recent])
    with shown("fine_tune", "steps at most") as progress:
        tuned = tonight.base.tune(examples, latest, items, checkpoint_folder=folder, progress=progress)
    recommender, calibration = calibrated(tonight, tuned.recommender)
    lineage: dict[str, Fact] = {
        "night": name,
        "coreset": len(chosen),
        "trained_through": trained_through.isoformat(),
        BASE: tonight.night.need("base_model").sha256,
    }
    path = f"models/recommender/{name}"
    with storage.publishing(tonight.lake, path) as published:
        bundle.save(published.folder, recommender, base=tuned.base, lineage=lineage)
    tonight.drop_checkpoints("fine_tune")
    facts: dict[str, Fact] = {
        "backend": tonight.backend.name,
        "examples": len(examples),
        "of earlier coresets": len(remembered_samples),
        "of the validation slice": len(recent),
        **tuned.facts,
        **calibration,
        "trained through": trained_through.isoformat(),
    }
    return Snapshot(stage="fine_tune", path=path, sha256=published.sha256, rows=len(chosen), facts=facts)
