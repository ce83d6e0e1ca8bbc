"""Scores every training sample: influence by the surrogate, effort by the language model."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from peft import PeftModel

from dealrec_core import schema
from dealrec_core.influence import continued
from dealrec_core.influence.continued import Continued
from dealrec_core.lake.nights import Fact, Night, Snapshot, fingerprint
from dealrec_core.lake.parallel import Over
from dealrec_core.language import effort
from dealrec_core.recommenders import bundle
from dealrec_core.samples import sequences
from tasks import carried, shards
from tasks.base_model import BaseModel, base_model_of, examples
from tasks.catalogue import full_catalogue
from tasks.champion import champion_on, load_tiger
from tasks.ingest import samples_of
from tasks.progress import shown
from tasks.stage import device, stage
from tasks.surrogate import surrogate_of


@stage("influence")
def score_influence(night: Night) -> Snapshot:
    """Table `influences`: what leaving each train sample out would do to the surrogate's risk."""
    model, item_ids = surrogate_of(night)
    train, risk = samples_of(night, "train"), carried.risk_samples(night)
    made = _scored(night, model, item_ids, train, risk)
    path, sha256 = carried.leave(night, made, item_ids)
    result = made.result
    frame = pl.DataFrame(
        {
            schema.NIGHT: [night.name] * len(train),
            schema.SAMPLE_ID: train[schema.SAMPLE_ID],
            schema.INFLUENCE: result.scores,
        }
    )
    version = night.lake.replace(
        "influences",
        frame,
        schema=schema.INFLUENCES,
        where=f"{schema.NIGHT} = '{night.name}'",
        transaction=(night.name, 1),
    )
    facts: dict[str, Fact] = {
        "samples": len(train),
        "risk samples": len(risk),
        "solver": night.config.influence.solver,
        "products": result.products,
        "residual": float(f"{result.residual:.2e}"),
        "damping": float(f"{result.damping:.3g}"),
        "cosine of q and v": round(result.alignment, 4),
        "share positive": round(float((result.scores > 0).mean()), 4),
        "scored": made.scored,
        "reused": len(train) - made.scored,
        "surrogate moved": None if made.moved is None else round(made.moved, 4),
        "why": made.why,
    }
    return Snapshot(
        stage="influence", table="influences", version=version, rows=len(train), facts=facts, path=path, sha256=sha256
    )


def _scored(night: Night, model: Any, item_ids: list[str], train: pl.DataFrame, risk: pl.DataFrame) -> Continued:
    """From what an earlier night left where it may be used, else anew."""
    found = carried.earlier_of(night, item_ids, train, risk)
    samples, aims = sequences.encode(train, item_ids), sequences.encode(risk, item_ids)
    config, seed, where = night.config.algorithms.influence, night.config.run.seed, device(night)
    if isinstance(found, str):
        return continued.anew(model, samples, aims, config=config, seed=seed, device=where, why=found)
    return continued.score_on(found, model, samples, aims, config=config, seed=seed, device=where)


@stage("effort")
def score_effort(night: Night) -> Snapshot:
    """Table `efforts`: the gradient norm of each train sample, once per sample and model, in shards.

    A sample is scored when it had no effort when the night opened, or when it is in tonight's share of those that an
    earlier champion scored. Every shard is one commit, so a killed night goes on after the last whole one.
    """
    train = _with_content(samples_of(night, "train"))
    base = base_model_of(night)
    model_name = _model_name(night, base)
    before = _efforts(night, model_name, version=night.manifest.versions["efforts"])
    missing = train.join(before, on=[schema.SAMPLE_ID, schema.CONTENT], how="anti")
    stale = _stale(train, before, model_name=model_name, share=night.config.effort.refresh)
    done = _efforts(night, model_name, version=None).filter(pl.col(schema.MODEL) == model_name)
    left = pl.concat([missing, stale]).join(done, on=[schema.SAMPLE_ID, schema.CONTENT], how="anti")
    parts = list(left.sort(schema.SAMPLE_ID).iter_slices(night.config.effort.shard_samples))
    scored = 0
    with (
        shards.engine(night.config.run, name="effort", device=device(night).type) as over,
        shown("effort", "samples") as bar,
    ):
        for part, norms in zip(parts, _scored_parts(night, parts, over), strict=True):
            fresh = part.select(
                pl.lit(night.name).alias(schema.NIGHT),
                schema.SAMPLE_ID,
                schema.CONTENT,
                pl.lit(model_name).alias(schema.MODEL),
                pl.Series(schema.EFFORT, norms),
            )
            night.lake.append("efforts", fresh, schema=schema.EFFORTS)
            scored += len(part)
            bar(scored, len(left))
    computed = len(missing) + len(stale)
    facts: dict[str, Fact] = {
        "samples": len(train),
        "computed": computed,
        "refreshed": len(stale),
        "kept": len(train) - computed,
        "model": model_name,
    }
    return Snapshot(stage="effort", table="efforts", version=night.lake.version("efforts"), rows=computed, facts=facts)


def scores_of(night: Night) -> pl.DataFrame:
    """sample_id, influence and effort of every train sample of this night, sorted by sample_id."""
    train = _with_content(samples_of(night, "train"))
    influences = (
        night.lake.scan("influences", night.need("influence").version)
        .filter(pl.col(schema.NIGHT) == night.name)
        .collect()
    )
    recorded = night.need("effort")
    efforts = _efforts(night, str(recorded.facts["model"]), version=recorded.version)
    return (
        train.select(schema.SAMPLE_ID, schema.CONTENT)
        .join(influences, on=schema.SAMPLE_ID, how="left")
        .join(efforts, on=[schema.SAMPLE_ID, schema.CONTENT], how="left")
        .select(schema.SAMPLE_ID, schema.INFLUENCE, schema.EFFORT)
        .sort(schema.SAMPLE_ID)
    )


def _scored_parts(night: Night, parts: list[pl.DataFrame], over: Over | None) -> Iterator[np.ndarray]:
    """Effort part by part; the model is loaded once here, or by every worker for its part."""
    if not parts:
        return iter([])
    return map(_scorer(night), parts) if over is None else over(partial(_score_alone, night), parts)


def _score_alone(night: Night, part: pl.DataFrame) -> np.ndarray:
    return _scorer(night)(part)


def _scorer(night: Night) -> Callable[[pl.DataFrame], np.ndarray]:
    """Gives the effort of samples by tonight's backend, on the base model or the champion; the model is loaded once."""
    base, config, where = base_model_of(night), night.config, device(night)
    champion = champion_on(night, base.sha256)
    scored = champion if config.effort.model == "champion" else None
    if config.recommender.backend == "tiger":
        pretrained = load_tiger(base.location, where)
        network = pretrained if scored is None else load_tiger(scored, where)
        ids = (pretrained if champion is None else load_tiger(champion, where)).ids.extended(full_catalogue(night))
        return lambda samples: effort.score_tiger(
            network.model,
            sequences.encode(samples, ids.item_ids),
            ids,
            network=config.algorithms.tiger,
            config=config.algorithms.effort,
            lora=config.algorithms.tiger.lora,
            seed=config.run.seed,
            device=where,
        )
    model, tokenizer = base.load(where, four_bit=config.language_model.four_bit)
    tuned = model if scored is None else PeftModel.from_pretrained(model, str(scored / bundle.ADAPTER))
    return lambda samples: effort.score(
        tuned,
        tokenizer,
        examples(night, samples),
        prompt=config.recommender.prompt,
        config=config.algorithms.effort,
        lora=config.algorithms.fine_tune.lora,
        seed=config.run.seed,
        device=where,
    )


def _model_name(night: Night, base: BaseModel) -> str:
    """Hash of the settings and the base model that effort depends on, a hyphen, hash of the champion or 'base'."""
    config = night.config
    is_tiger = config.recommender.backend == "tiger"
    full = config.algorithms
    ours = [full.tiger.lora] if is_tiger else [full.fine_tune.lora, config.recommender.prompt]
    read = full.tiger.history_length if is_tiger else config.recommender.titles
    settings = full.effort.model_dump_json(exclude={"refresh", "shard_samples", "batch_tokens"})
    parts = [settings, *(part.model_dump_json() for part in ours), str(read)]
    family = fingerprint([base.sha256, str(config.run.seed), *parts])[:16]
    folder = champion_on(night, base.sha256) if config.effort.model == "champion" else None
    return f"{family}-{'base' if folder is None else fingerprint([str(night.manifest.champion)])[:8]}"


def _efforts(night: Night, model_name: str, *, version: int | None) -> pl.DataFrame:
    """Each sample's newest effort by models of one family, those of this very model first: SAMPLE_ID to EFFORT."""
    if version == -1 or not night.lake.exists("efforts"):
        return pl.DataFrame(schema=schema.EFFORTS)
    family, _ = model_name.split("-")
    rows = night.lake.scan("efforts", version).filter(pl.col(schema.MODEL).str.starts_with(f"{family}-")).collect()
    newest = rows.sort(pl.col(schema.MODEL) == model_name, schema.NIGHT, descending=True)
    return newest.unique([schema.SAMPLE_ID, schema.CONTENT], keep="first", maintain_order=True)


def _stale(train: pl.DataFrame, before: pl.DataFrame, *, model_name: str, share: float) -> pl.DataFrame:
    """At most `share` of the samples: those that another champion scored, longest ago first."""
    other = before.filter(pl.col(schema.MODEL) != model_name).select(schema.SAMPLE_ID, schema.CONTENT, schema.NIGHT)
    found = train.join(other, on=[schema.SAMPLE_ID, schema.CONTENT])
    oldest = found.sort(schema.NIGHT, schema.SAMPLE_ID).head(math.ceil(share * len(train)))
    return oldest.select(train.columns)


def _with_content(samples: pl.DataFrame) -> pl.DataFrame:
    """Adds the text that tells two samples of one id apart: the history and the target."""
    words = pl.concat_str(pl.col(schema.HISTORY).list.join("\x1f"), pl.lit("\x1e"), pl.col(schema.ITEM_ID))
    hashed = [fingerprint([text])[:16] for text in samples.select(words).to_series()]
    return samples.with_columns(pl.Series(schema.CONTENT, hashed, dtype=pl.String))
