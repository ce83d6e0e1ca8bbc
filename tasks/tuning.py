"""Tunes the language model on tonight's coreset and packs it as a recommender anyone can load."""

import tempfile
from pathlib import Path

import polars as pl

from dealrec_core import fine_tuning, schema
from dealrec_core.night import Fact, Night, Snapshot
from dealrec_core.recommenders import bundle
from tasks import storage
from tasks.base_model import base_model_of, examples
from tasks.catalogue import full_catalogue, log_before_test
from tasks.coreset import coreset_of
from tasks.ingest import boundaries_of, samples_of
from tasks.stage import device, stage


@stage("fine_tune")
def tune(night: Night) -> Snapshot:
    """Folder `models/recommender/<night>`: base model, LoRA adapter, catalogue and settings; loads by itself."""
    config, where = night.config, device(night)
    base = base_model_of(night)
    model, tokenizer = base.load(where)
    chosen = coreset_of(night)
    tuned = fine_tuning.fine_tune(
        model,
        tokenizer,
        examples(night, chosen),
        examples(night, _validation(night)),
        prompt=config.recommender.prompt,
        config=config.fine_tune,
        seed=config.run.seed,
        device=where,
    )
    trained_through = boundaries_of(night).test_start
    path = f"models/recommender/{night.name}"
    with tempfile.TemporaryDirectory() as folder:
        bundle.save(
            Path(folder),
            base=base.location,
            adapter=tuned.model,
            catalogue=full_catalogue(night),
            popular=_popular(night),
            config=config.recommender,
            lineage={"night": night.name, "coreset": len(chosen), "trained_through": trained_through.isoformat()},
        )
        sha256 = storage.publish(night.lake, Path(folder), path)
    facts: dict[str, Fact] = {
        "examples": len(chosen),
        "steps": tuned.steps,
        "tokens": tuned.tokens,
        "first loss": round(tuned.losses[0], 4),
        "last loss": round(tuned.losses[-1], 4),
        "trained through": trained_through.isoformat(),
    }
    return Snapshot(stage="fine_tune", path=path, sha256=sha256, rows=len(chosen), facts=facts)


def _validation(night: Night) -> pl.DataFrame:
    """At most `fine_tune.validation_examples` of the newest validation samples."""
    newest = samples_of(night, "validation").sort(schema.TIMESTAMP, schema.SAMPLE_ID)
    return newest.tail(night.config.fine_tune.validation_examples)


def _popular(night: Night) -> list[str]:
    """Item ids by number of interactions before the held-out slice, for users without a history."""
    counts = log_before_test(night).group_by(schema.ITEM_ID).len().sort("len", schema.ITEM_ID, descending=[True, False])
    return counts.head(1000).collect()[schema.ITEM_ID].to_list()
