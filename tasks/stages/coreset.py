"""Selects tonight's coreset and writes it where fine-tuning, and anyone else, can take it."""

from typing import Any

import polars as pl

from dealrec_core import coreset, schema
from dealrec_core.coreset import budget, emission
from dealrec_core.coreset.methods import NEEDS
from dealrec_core.coreset.selection import with_features
from dealrec_core.errors import DataError
from dealrec_core.lake.nights import Fact, Night, Snapshot
from dealrec_core.recommenders.features import FeatureInputs, features
from dealrec_core.samples.contents import with_content
from tasks import events, storage
from tasks.stage import stage
from tasks.stages.effort import KEYS, choosable, newest_efforts
from tasks.tonight import Tonight

EMITTED = "coreset.emitted"
AIMS = 256
"""Most recent validation samples that methods with an aim aim at."""


@stage("coreset")
def select_coreset(tonight: Tonight) -> Snapshot:
    """Writes the chosen samples with score, group and reason to the table `coresets`, and as files below `emitted/coresets/`."""
    config, name = tonight.config.coreset, tonight.night.name
    needs = set(NEEDS[config.method])
    settings, seed = tonight.config.algorithms.coreset, tonight.config.run.seed
    asked = _asked(tonight, needs)
    pool, aims = features(asked, _inputs(tonight)) if asked else ({}, {})
    samples, tokens = with_features(_scores(tonight, needs), pool), _token_budget(tonight)
    settings = settings.model_copy(update={"count": budget.samples(settings, len(samples))})  # a share of all samples
    samples = samples.join(choosable(tonight), on=schema.SAMPLE_ID, how="semi")
    selection = coreset.select(samples, settings, seed=seed, reference=aims, token_budget=tokens)
    version = tonight.replace_rows("coresets", selection.frame, schema.CORESETS)
    chosen = tonight.train.join(selection.frame, on=schema.SAMPLE_ID)
    path, content = f"emitted/coresets/{name}", emission.content_hash(chosen)
    sha256 = _emit(tonight, chosen, selection.report, path)
    facts: dict[str, Fact] = {"method": config.method, **selection.report, "content": content[:16]}
    # Before the record: a stage that is killed in between says it twice, never not at all.
    events.emit(tonight.night, EMITTED, path=path, sha256=sha256, hash=content, count=len(chosen))
    return Snapshot(
        stage="coreset", table="coresets", version=version, path=path, sha256=sha256, rows=len(chosen), facts=facts
    )


def _scores(tonight: Tonight, needs: set[str]) -> pl.DataFrame:
    """sample_id, influence and effort of every train sample, sorted by sample_id; null if the method needs neither.

    Effort is also null for samples that cannot be chosen.
    """
    null = pl.lit(None, dtype=pl.Float64)
    frame = tonight.train.select(schema.SAMPLE_ID, null.alias(schema.INFLUENCE), null.alias(schema.EFFORT))
    if schema.INFLUENCE in needs:
        frame = frame.drop(schema.INFLUENCE).join(tonight.rows("influence"), on=schema.SAMPLE_ID, how="left")
    if schema.EFFORT in needs:
        record = tonight.night.need("effort")
        efforts = newest_efforts(tonight.night, str(record.facts["model"]), version=record.version)
        scored = with_content(choosable(tonight)).join(efforts, on=KEYS).select(schema.SAMPLE_ID, schema.EFFORT)
        frame = frame.drop(schema.EFFORT).join(scored, on=schema.SAMPLE_ID, how="left")
    return frame.select(schema.SAMPLE_ID, schema.INFLUENCE, schema.EFFORT).sort(schema.SAMPLE_ID)


def _asked(tonight: Tonight, needs: set[str]) -> set[str]:
    """The features that the method and the budget ask for beside influence and effort."""
    by_tokens = {"tokens"} if budget.counts_tokens(tonight.config.algorithms.coreset) else set()
    return needs - {schema.INFLUENCE, schema.EFFORT} | by_tokens


def _inputs(tonight: Tonight) -> FeatureInputs:
    return FeatureInputs(
        train=tonight.train,
        recent=tonight.validation,
        aims=tonight.validation.sort(schema.TIMESTAMP, schema.SAMPLE_ID).tail(AIMS),
        catalogue=lambda: tonight.full_catalogue,
        counts=lambda: tonight.train_counts,
        base=lambda: tonight.base,
        surrogate=lambda: tonight.surrogate,
        surrogate_config=tonight.config.algorithms.surrogate,
        seed=tonight.config.run.seed,
        device=tonight.device,
    )


def _emit(tonight: Tonight, chosen: pl.DataFrame, report: dict[str, int | float], path: str) -> str:
    """Publishes the files of the coreset; returns the hash over them."""
    prompt, length = tonight.config.recommender.prompt, tonight.config.recommender.titles
    facts, catalogue = _described(tonight.night, report), tonight.full_catalogue
    files = emission.files(chosen, catalogue, prompt=prompt, history_length=length, facts=facts)
    with storage.publishing(tonight.lake, path) as published:
        for name, content in files.items():
            (published.folder / name).write_bytes(content)
    return published.sha256


def _described(night: Night, report: dict[str, int | float]) -> dict[str, Any]:
    """The manifest's content: everything that the coreset was made of, and nothing that another try would change."""
    stages = ("ingest", "samples", "influence", "effort")
    records = [record for stage in stages if (record := night.find(stage)) is not None]
    tables = {str(record.table): record.version for record in records}
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


def _token_budget(tonight: Tonight) -> int | None:
    """Tokens of one epoch that the settings allow, None where they name a number or a share of samples."""
    config, tuning, earlier = tonight.config.algorithms.coreset, tonight.config.fine_tune, tonight.night.earlier
    remembers = any(night.find("coreset") for night in earlier)
    passes = tuning.epochs * (1 + tuning.memory if remembers else 1)
    return budget.tokens(config, passes=passes, measured=lambda: _measured_speed(earlier))


def _measured_speed(earlier: list[Night]) -> float:
    """Tokens a second of the newest night that tuned."""
    for night in reversed(earlier):
        tuned = night.find("fine_tune")
        if tuned is not None and tuned.seconds > 0:
            return float(str(tuned.facts["tokens"])) / tuned.seconds
    raise DataError("no night has measured the speed of tuning yet; set coreset.tokens_per_second or coreset.count")
