"""What tonight's model learns beside its coreset: samples of earlier coresets, and newest samples of the held-out slices."""

import numpy as np
import polars as pl

from dealrec_core import schema
from dealrec_core.coreset import memory
from dealrec_core.samples import split
from tasks.tonight import Tonight


def remembered(tonight: Tonight, coreset: pl.DataFrame) -> pl.DataFrame:
    """Train samples of earlier coresets that are not in this one, as many as `fine_tune.memory` allows, newest nights first."""
    most = round(tonight.config.fine_tune.memory * len(coreset))
    earlier = [night for night in reversed(tonight.night.earlier) if night.find("coreset") is not None]
    if not earlier or not most:
        return tonight.train.clear()
    table = tonight.night.scan("coresets", earlier[0].need("coreset").version)
    chosen = table.select(schema.NIGHT, schema.SAMPLE_ID).collect()
    others = tonight.train.join(coreset, on=schema.SAMPLE_ID, how="anti")
    return memory.remembered(chosen, others, nights=[night.name for night in earlier], most=most)


def newest_samples(tonight: Tonight, held_out: pl.DataFrame, coreset: pl.DataFrame) -> pl.DataFrame:
    """Some of the held-out samples, drawn at random: as many for each of the coreset as `fine_tune.refit` says.

    Half of all samples is kept back for good, so that epochs are chosen on samples which no model has learnt, the champion neither.
    """
    most = round(tonight.config.fine_tune.refit * len(coreset))
    learnable = held_out.filter(~split.kept_back()).sort(schema.SAMPLE_ID)
    return split.drawn(learnable, most, np.random.default_rng(tonight.config.run.seed))
