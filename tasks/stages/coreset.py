"""Selects tonight's coreset and writes it where fine-tuning, and anyone else, can take it."""

from typing import Any

import polars as pl

from dealrec_core import coreset, schema
from dealrec_core.coreset import budget, emission
from dealrec_core.coreset.methods import NEEDS
from dealrec_core.coreset.selection import Selection, with_features
from dealrec_core.errors import DataError
from dealrec_core.evaluation import proxy
from dealrec_core.lake.nights import Fact, Night, Snapshot
from dealrec_core.recommenders.features import FeatureInputs, features
from dealrec_core.samples import split
from dealrec_core.samples.contents import with_content
from tasks import events, storage
from tasks.beside import newest_samples, remembered
from tasks.progress import shown
from tasks.stage import stage
from tasks.stages.effort import KEYS, choosable, newest_efforts
from tasks.tonight import Tonight

EMITTED = "coreset.emitted"
AIMS = 256
"""Most recent validation samples that methods with an aim aim at."""
AUTO, RANDOM = "auto", "random"
SEEDS = 3
"""Small networks trained on each side of the comparison with random coresets."""
NOTHING = "not compared"


@stage("coreset")
def select_coreset(tonight: Tonight) -> Snapshot:
    """Writes the chosen samples with score, group and reason to the table `coresets`, and as files below `emitted/coresets/`."""
    name = tonight.night.name
    method, selection, compared = _decided(tonight)
    version = tonight.replace_rows("coresets", selection.frame, schema.CORESETS)
    chosen = tonight.train.join(selection.frame, on=schema.SAMPLE_ID)
    path, content = f"emitted/coresets/{name}", emission.content_hash(chosen)
    sha256 = _emit(tonight, chosen, method, selection.report, path)
    facts: dict[str, Fact] = {"method": method, **selection.report, **compared, "content": content[:16]}
    # Before the record: a stage that is killed in between says it twice, never not at all.
    events.emit(tonight.night, EMITTED, path=path, sha256=sha256, hash=content, count=len(chosen))
    return Snapshot(
        stage="coreset", table="coresets", version=version, path=path, sha256=sha256, rows=len(chosen), facts=facts
    )


def _decided(tonight: Tonight) -> tuple[str, Selection, dict[str, Fact]]:
    """The method that is used, its coreset, and what the comparison with random coresets found; a random coreset is not compared."""
    method = tonight.config.coreset.tried
    selection = _selected(tonight, method)
    if method == RANDOM:
        return method, selection, {}
    compared = _compared(tonight, selection)
    if tonight.config.coreset.method != AUTO or compared["word"] == "better":
        return method, selection, compared
    told = {"comparison": f"{compared['comparison']}; the night learns a random coreset"}
    return RANDOM, _selected(tonight, RANDOM), compared | told


def _selected(tonight: Tonight, method: str) -> Selection:
    """The coreset of a method, with all scores that tonight has."""
    scored = set(NEEDS[tonight.config.coreset.tried])
    settings, seed = tonight.config.algorithms.coreset, tonight.config.run.seed
    asked = _asked(tonight, set(NEEDS[method]))
    pool, aims = features(asked, _inputs(tonight)) if asked else ({}, {})
    samples, tokens = with_features(_scores(tonight, scored), pool), _token_budget(tonight)
    settings = settings.model_copy(update={"count": budget.samples(settings, len(samples))})  # a share of all samples
    if method != RANDOM:
        samples = samples.join(choosable(tonight), on=schema.SAMPLE_ID, how="semi")
    return coreset.select(samples, settings, seed=seed, by=method, reference=aims, token_budget=tokens)


def _compared(tonight: Tonight, selection: Selection) -> dict[str, Fact]:
    """The word (better, worse, no difference shown), the mean gain over random coresets and its interval."""
    method, seed = tonight.config.coreset.tried, tonight.config.run.seed
    chosen = tonight.train.join(selection.frame.select(schema.SAMPLE_ID), on=schema.SAMPLE_ID, how="semi")
    judges = tonight.validation.filter(split.kept_back())
    if judges.is_empty() or len(chosen) == len(tonight.train):
        return {"word": NOTHING, "comparison": f"{NOTHING}: there is no sample to compare by, or nothing to choose"}
    beside = pl.concat([remembered(tonight, chosen), newest_samples(tonight, tonight.validation, chosen)])
    with shown("coreset", "networks of the comparison") as progress:
        found = proxy.compare(
            chosen,
            tonight.train,
            judges,
            tonight.surrogate[1],
            beside=beside,
            evaluation=tonight.config.algorithms.evaluation,
            seeds=SEEDS,
            seed=seed,
            device=tonight.device,
            progress=progress,
        )
    gap = found.gap
    figures = f"ndcg@{proxy.DEPTH} {found.chosen:.4f} against {found.random:.4f} of random"
    interval = f"{gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}], {found.seeds} seeds"
    numbers = {"gain": gap.mean, "low": gap.low, "high": gap.high}
    return {
        "word": found.word,
        "comparison": f"{found.word}: {method} has {figures}, {interval}",
        **{name: round(value, 6) for name, value in numbers.items()},
    }


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
        recent=tonight.aimed_at,
        aims=tonight.aimed_at.sort(schema.TIMESTAMP, schema.SAMPLE_ID).tail(AIMS),
        catalogue=lambda: tonight.full_catalogue,
        counts=lambda: tonight.train_counts,
        base=lambda: tonight.base,
        surrogate=lambda: tonight.surrogate,
        surrogate_config=tonight.config.algorithms.surrogate,
        seed=tonight.config.run.seed,
        device=tonight.device,
    )


def _emit(tonight: Tonight, chosen: pl.DataFrame, method: str, report: dict[str, int | float], path: str) -> str:
    """Publishes the files of the coreset; returns the hash over them."""
    prompt, length = tonight.config.recommender.prompt, tonight.config.recommender.titles
    facts, catalogue = _described(tonight.night, method, report), tonight.full_catalogue
    files = emission.files(chosen, catalogue, prompt=prompt, history_length=length, facts=facts)
    with storage.publishing(tonight.lake, path) as published:
        for name, content in files.items():
            (published.folder / name).write_bytes(content)
    return published.sha256


def _described(night: Night, method: str, report: dict[str, int | float]) -> dict[str, Any]:
    """The manifest's content: everything that the coreset was made of, and nothing that another try would change."""
    stages = ("ingest", "samples", "influence", "effort")
    records = [record for stage in stages if (record := night.find(stage)) is not None]
    tables = {str(record.table): record.version for record in records}
    return {
        "night": night.name,
        "day": night.day.isoformat(),
        "method": method,
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
