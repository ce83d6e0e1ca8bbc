"""Scores the effort of every train sample that can still be chosen, once per sample and model."""

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import polars as pl

from dealrec_core import schema
from dealrec_core.coreset import budget
from dealrec_core.coreset.base import highest
from dealrec_core.coreset.methods import NEEDS
from dealrec_core.lake.nights import Fact, Night, Snapshot, fingerprint
from dealrec_core.lake.parallel import Over
from dealrec_core.recommenders.backend import efforts
from dealrec_core.samples.contents import with_content
from tasks import shards
from tasks.progress import shown
from tasks.stage import stage
from tasks.tonight import Tonight

KEYS = [schema.SAMPLE_ID, schema.CONTENT]


@stage("effort")
def score_effort(tonight: Tonight) -> Snapshot:
    """Writes the gradient norm of each train sample that can be chosen to the table `efforts`, in shards.

    A sample is scored when it had no effort when the night opened, or when it is in tonight's share of those that an
    earlier champion scored. Every shard is one commit, so a killed night continues after the last complete one.
    """
    config, train, model = tonight.config, with_content(choosable(tonight)), _model_name(tonight)
    missing, stale = _work(tonight, train, model)
    done = newest_efforts(tonight.night, model, version=None).filter(pl.col(schema.MODEL) == model)
    open_rows = pl.concat([missing, stale]).join(done, on=KEYS, how="anti").sort(schema.SAMPLE_ID)
    shard_frames = list(open_rows.iter_slices(config.effort.shard_samples))
    scored = 0
    engine = shards.engine(config.run, name="effort", device=tonight.device.type)
    with engine as over, shown("effort", "samples") as progress:
        for shard, norms in zip(shard_frames, _norms(tonight, shard_frames, over), strict=True):
            names = {schema.NIGHT: pl.lit(tonight.night.name), schema.MODEL: pl.lit(model)}
            rows = shard.select(*KEYS, pl.Series(schema.EFFORT, norms), **names).select(schema.EFFORTS.names())
            tonight.lake.append("efforts", rows, schema=schema.EFFORTS)
            scored += len(shard)
            progress(scored, len(open_rows))
    computed = len(missing) + len(stale)
    facts: dict[str, Fact] = {
        "samples": len(train),
        "not scored": len(tonight.train) - len(train),
        "computed": computed,
        "refreshed": len(stale),
        "kept": len(train) - computed,
        "model": model,
    }
    version = tonight.lake.version("efforts")
    return Snapshot(stage="effort", table="efforts", version=version, rows=computed, facts=facts)


def choosable(tonight: Tonight) -> pl.DataFrame:
    """Tonight's train samples (SAMPLES) that the coreset may hold: by `effort.share` those of the highest influence.

    All of them where the method does not use both scores. Never fewer than the coreset's number of samples.
    """
    share, train = tonight.config.effort.share, tonight.train
    if share == 1 or not {schema.INFLUENCE, schema.EFFORT} <= set(NEEDS[tonight.config.coreset.tried]):
        return train
    count = max(math.ceil(share * len(train)), budget.samples(tonight.config.algorithms.coreset, len(train)))
    scores = train.join(tonight.rows("influence"), on=schema.SAMPLE_ID, how="left", maintain_order="left")
    return train[highest(scores[schema.INFLUENCE].to_numpy(), count)]


def _work(tonight: Tonight, train: pl.DataFrame, model: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Samples that had no effort when the night opened, and samples with an old one that are tonight's to refresh."""
    before = newest_efforts(tonight.night, model, version=tonight.night.manifest.versions["efforts"])
    missing = train.join(before, on=KEYS, how="anti")
    return missing, stale_samples(train, before, model=model, share=tonight.config.effort.refresh)


def _norms(tonight: Tonight, shard_frames: list[pl.DataFrame], over: Over | None) -> Iterator[np.ndarray]:
    """The effort of every shard, in order: here with one model for all, or by workers that open it for themselves."""
    if over is None:
        return (efforts(tonight.base, shard) for shard in shard_frames)
    return over(partial(_on_worker, tonight.night), shard_frames)


def _on_worker(night: Night, shard: pl.DataFrame) -> np.ndarray:
    return efforts(Tonight(night).base, shard)


def newest_efforts(night: Night, model: str, *, version: int | None) -> pl.DataFrame:
    """The newest effort of each sample by models of one family (EFFORTS), those of this very model first."""
    if version == -1 or not night.lake.exists("efforts"):
        return pl.DataFrame(schema=schema.EFFORTS)
    family, _ = model.split("-")
    rows = night.scan("efforts", version).filter(pl.col(schema.MODEL).str.starts_with(f"{family}-")).collect()
    newest = rows.sort(pl.col(schema.MODEL) == model, schema.NIGHT, descending=True)
    return newest.unique(KEYS, keep="first", maintain_order=True)


def stale_samples(train: pl.DataFrame, before: pl.DataFrame, *, model: str, share: float) -> pl.DataFrame:
    """At most `share` of the samples: those that another champion scored, longest ago first."""
    by_others = before.filter(pl.col(schema.MODEL) != model).select(*KEYS, schema.NIGHT)
    oldest = train.join(by_others, on=KEYS).sort(schema.NIGHT, schema.SAMPLE_ID)
    return oldest.head(math.ceil(share * len(train))).select(train.columns)


def _model_name(tonight: Tonight) -> str:
    """Hash of the settings and the base model that effort depends on, a hyphen, hash of the champion or 'base'."""
    base = tonight.night.need("base_model")
    family = fingerprint([str(base.sha256), *tonight.backend.effort_key()])[:16]
    by_champion = tonight.config.effort.model == "champion" and tonight.usable_champion is not None
    return f"{family}-{fingerprint([str(tonight.night.manifest.champion)])[:8] if by_champion else 'base'}"
