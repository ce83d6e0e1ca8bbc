"""Tunes tonight's model on the coreset and packs it as a recommender that anyone can load."""

import polars as pl

from dealrec_core import schema
from dealrec_core.lake.nights import Fact, Snapshot
from dealrec_core.recommenders import bundle
from dealrec_core.recommenders.backend import BASE, ItemStatistics
from tasks import storage
from tasks.calibrated import calibrated
from tasks.progress import shown
from tasks.stage import stage
from tasks.tonight import Tonight


@stage("fine_tune")
def fine_tune(tonight: Tonight) -> Snapshot:
    """Writes the folder `models/recommender/<night>`: model, catalogue and settings, which load by themselves."""
    config, name, chosen = tonight.config, tonight.night.name, tonight.coreset
    replayed = _replayed(tonight)
    trained_through, folder = tonight.boundaries.test_start, tonight.checkpoints("fine_tune")
    newest = tonight.validation.sort(schema.TIMESTAMP, schema.SAMPLE_ID)
    latest = newest.tail(config.algorithms.fine_tune.validation_examples)
    items = ItemStatistics(tonight.item_counts)
    examples = pl.concat([chosen, replayed])
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
        "examples": len(chosen) + len(replayed),
        "replayed": len(replayed),
        **tuned.facts,
        **calibration,
        "trained through": trained_through.isoformat(),
    }
    return Snapshot(stage="fine_tune", path=path, sha256=published.sha256, rows=len(chosen), facts=facts)


def _replayed(tonight: Tonight) -> pl.DataFrame:
    """Samples of the coresets of the last `fine_tune.replay_nights` nights that are not in tonight's, by sample_id."""
    count = tonight.config.fine_tune.replay_nights
    selected = [night.name for night in tonight.night.earlier if night.find("coreset") is not None]
    table = tonight.lake.scan("coresets", tonight.night.need("coreset").version)
    names = selected[max(0, len(selected) - count) :] if count else []
    ids = table.filter(pl.col(schema.NIGHT).is_in(names)).select(schema.SAMPLE_ID).unique().collect()
    samples = tonight.train.join(ids, on=schema.SAMPLE_ID, how="semi")
    return samples.join(tonight.coreset, on=schema.SAMPLE_ID, how="anti").sort(schema.SAMPLE_ID)
