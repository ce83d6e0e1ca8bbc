"""Selects tonight's coreset and writes it where fine-tuning, and anyone else, can take it."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dealrec_core import coreset, schema
from dealrec_core.coreset import emission
from dealrec_core.coreset.methods import NEEDS
from dealrec_core.errors import DataError
from dealrec_core.lake.nights import Fact, Night, Snapshot, nights
from tasks import events, storage
from tasks.catalogue import full_catalogue
from tasks.features import features_of
from tasks.ingest import samples_of
from tasks.scores import scores_of
from tasks.stage import stage

EMITTED = "coreset.emitted"


@stage("coreset")
def select(night: Night) -> Snapshot:
    """Table `coresets`: the chosen samples with score, group and reason; the same as files below `emitted/coresets/`."""
    scores = scores_of(night)
    pool, aims = features_of(night)
    if "gradient_norm" in NEEDS[night.config.coreset.method]:
        pool["gradient_norm"] = scores[schema.EFFORT].to_numpy()
    selection = coreset.select(
        scores.with_columns([_column(name, values) for name, values in pool.items()]),
        night.config.algorithms.coreset,
        seed=night.config.run.seed,
        reference=aims,
        token_budget=_token_budget(night),
    )
    frame = selection.frame.with_columns(pl.lit(night.name).alias(schema.NIGHT))
    version = night.lake.replace(
        "coresets",
        frame.select(schema.CORESETS.names()),
        schema=schema.CORESETS,
        where=f"{schema.NIGHT} = '{night.name}'",
        transaction=(night.name, 1),
    )
    path = f"emitted/coresets/{night.name}"
    described = _described(night, selection.report)
    content, sha256 = _emit(night, selection.frame, described, path)
    facts: dict[str, Fact] = {"method": night.config.coreset.method, **selection.report, "content": content[:16]}
    # Before the record: a stage that is killed in between says it twice, never not at all.
    events.emit(night, EMITTED, path=path, sha256=sha256, hash=content, count=len(frame))
    return Snapshot(
        stage="coreset", table="coresets", version=version, path=path, sha256=sha256, rows=len(frame), facts=facts
    )


def coreset_of(night: Night) -> pl.DataFrame:
    """Tonight's chosen samples (SAMPLES columns), sorted by sample_id."""
    chosen = (
        night.lake.scan("coresets", night.need("coreset").version).filter(pl.col(schema.NIGHT) == night.name).collect()
    )
    return samples_of(night, "train").join(chosen, on=schema.SAMPLE_ID, how="semi").sort(schema.SAMPLE_ID)


def _emit(night: Night, frame: pl.DataFrame, described: dict[str, Any], path: str) -> tuple[str, str]:
    """Publishes the files; returns the hash over the samples and the hash over the files."""
    chosen = samples_of(night, "train").join(frame, on=schema.SAMPLE_ID)
    recommender = night.config.recommender
    made = emission.files(
        chosen,
        full_catalogue(night),
        prompt=recommender.prompt,
        history_length=recommender.titles,
        facts=described,
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, content in made.items():
            (Path(folder) / name).write_bytes(content)
        return emission.content_hash(chosen), storage.publish(night.lake, Path(folder), path)


def _described(night: Night, report: dict[str, int | float]) -> dict[str, Any]:
    """What the manifest says: everything the coreset was made of, and nothing that another try would change."""
    stages = [night.need(stage) for stage in ("ingest", "samples", "influence", "effort")]
    tables = {str(found.table): found.version for found in stages}
    return {
        "night": night.name,
        "day": night.day.isoformat(),
        "method": night.config.coreset.method,
        "seed": night.config.run.seed,
        "code": night.manifest.code,
        "settings": night.config.algorithms.coreset.model_dump(mode="json"),
        "tables": {**tables, "items": night.need("ingest").facts["items version"]},
        "models": {stage: night.need(stage).sha256 for stage in ("surrogate", "base_model")},
        "report": report,
    }


def _token_budget(night: Night) -> int | None:
    """Tokens of one epoch that the settings allow, None where they name a number or a share of samples."""
    settings = night.config.coreset
    if settings.gpu_minutes is None:
        return settings.tokens
    speed = settings.tokens_per_second or _measured_speed(night)
    return int(settings.gpu_minutes * 60 * speed / night.config.fine_tune.epochs)


def _measured_speed(night: Night) -> float:
    """Tokens a second of the newest night that tuned."""
    for earlier in reversed(nights(night.lake)):
        tuned = earlier.find("fine_tune") if earlier.name != night.name else None
        if tuned is not None and tuned.seconds > 0:
            return float(str(tuned.facts["tokens"])) / tuned.seconds
    raise DataError("no night has measured the speed of tuning yet; set coreset.tokens_per_second or coreset.count")


def _column(name: str, values: np.ndarray) -> pl.Series:
    if values.ndim == 1:
        return pl.Series(name, values)
    return pl.Series(name, values.astype(np.float32), dtype=pl.Array(pl.Float32, values.shape[1]))
