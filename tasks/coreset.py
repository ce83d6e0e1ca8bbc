"""Selects tonight's coreset and writes it where fine-tuning, and anyone else, can take it."""

import polars as pl

from dealrec_core import coreset, schema
from dealrec_core.night import Fact, Night, Snapshot
from tasks.ingest import samples_of
from tasks.scores import scores_of
from tasks.stage import stage


@stage("coreset")
def select(night: Night) -> Snapshot:
    """Table `coresets`: the chosen samples with score, group and reason."""
    selection = coreset.select(scores_of(night), night.config.coreset, seed=night.config.run.seed)
    frame = selection.frame.with_columns(pl.lit(night.name).alias(schema.NIGHT))
    version = night.lake.replace(
        "coresets",
        frame.select(schema.CORESETS.names()),
        schema=schema.CORESETS,
        where=f"{schema.NIGHT} = '{night.name}'",
    )
    facts: dict[str, Fact] = {"method": night.config.coreset.method, **selection.report}
    return Snapshot(stage="coreset", table="coresets", version=version, rows=len(frame), facts=facts)


def coreset_of(night: Night) -> pl.DataFrame:
    """Tonight's chosen samples (SAMPLES columns), sorted by sample_id."""
    chosen = (
        night.lake.scan("coresets", night.need("coreset").version).filter(pl.col(schema.NIGHT) == night.name).collect()
    )
    return samples_of(night, "train").join(chosen, on=schema.SAMPLE_ID, how="semi").sort(schema.SAMPLE_ID)
