"""Scores every training sample: influence by the surrogate, effort by the language model."""

import math

import polars as pl

from dealrec_core import effort, influence, schema, sequences
from dealrec_core.errors import DataError
from dealrec_core.night import Fact, Night, Snapshot, fingerprint
from tasks.base_model import base_model_of, examples
from tasks.ingest import samples_of
from tasks.stage import device, stage
from tasks.surrogate import surrogate_of


@stage("influence")
def score_influence(night: Night) -> Snapshot:
    """Table `influences`: what leaving each train sample out would do to the surrogate's risk."""
    model, item_ids = surrogate_of(night)
    train = samples_of(night, "train")
    risk = _risk_samples(night)
    result = influence.score(
        model,
        sequences.encode(train, item_ids),
        sequences.encode(risk, item_ids),
        config=night.config.influence,
        seed=night.config.run.seed,
        device=device(night),
    )
    frame = pl.DataFrame(
        {
            schema.NIGHT: [night.name] * len(train),
            schema.SAMPLE_ID: train[schema.SAMPLE_ID],
            schema.INFLUENCE: result.scores,
        }
    )
    version = night.lake.replace(
        "influences", frame, schema=schema.INFLUENCES, where=f"{schema.NIGHT} = '{night.name}'"
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
    }
    return Snapshot(stage="influence", table="influences", version=version, rows=len(train), facts=facts)


def _risk_samples(night: Night) -> pl.DataFrame:
    """The samples whose mean loss is the risk."""
    config = night.config.influence
    found = samples_of(night, "train" if config.risk == "train" else "validation")
    if found.is_empty():
        raise DataError(
            "the validation slice is empty; raise samples.validation_fraction or set influence.risk = 'train'"
        )
    return latest(found, config.recent_share) if config.risk == "recent" else found


def latest(samples: pl.DataFrame, share: float) -> pl.DataFrame:
    """The most recent share of the samples, at least one, sorted by sample_id; of equal times the higher ids first."""
    count = math.ceil(share * len(samples))
    return samples.sort(schema.TIMESTAMP, schema.SAMPLE_ID).tail(count).sort(schema.SAMPLE_ID)


@stage("effort")
def score_effort(night: Night) -> Snapshot:
    """Table `efforts`: the gradient norm of each train sample, computed once per sample and model."""
    train = _with_content(samples_of(night, "train"))
    base = base_model_of(night)
    model_name = _model_name(night, base.sha256)
    known = _known_efforts(night, model_name)
    missing = train.join(known, on=[schema.SAMPLE_ID, schema.CONTENT], how="anti").sort(schema.SAMPLE_ID)
    if not missing.is_empty():
        model, tokenizer = base.load(device(night))
        scores = effort.score(
            model,
            tokenizer,
            examples(night, missing),
            prompt=night.config.recommender.prompt,
            config=night.config.effort,
            lora=night.config.fine_tune.lora,
            seed=night.config.run.seed,
            device=device(night),
        )
        fresh = missing.select(
            pl.lit(night.name).alias(schema.NIGHT),
            schema.SAMPLE_ID,
            schema.CONTENT,
            pl.lit(model_name).alias(schema.MODEL),
            pl.Series(schema.EFFORT, scores),
        )
        night.lake.append("efforts", fresh, schema=schema.EFFORTS)
    facts: dict[str, Fact] = {
        "samples": len(train),
        "computed": len(missing),
        "kept": len(train) - len(missing),
        "model": model_name,
    }
    return Snapshot(
        stage="effort", table="efforts", version=night.lake.version("efforts"), rows=len(missing), facts=facts
    )


def scores_of(night: Night) -> pl.DataFrame:
    """sample_id, influence and effort of every train sample of this night, sorted by sample_id."""
    train = _with_content(samples_of(night, "train"))
    influences = (
        night.lake.scan("influences", night.need("influence").version)
        .filter(pl.col(schema.NIGHT) == night.name)
        .collect()
    )
    efforts = _known_efforts(night, str(night.need("effort").facts["model"]))
    return (
        train.select(schema.SAMPLE_ID, schema.CONTENT)
        .join(influences, on=schema.SAMPLE_ID, how="left")
        .join(efforts, on=[schema.SAMPLE_ID, schema.CONTENT], how="left")
        .select(schema.SAMPLE_ID, schema.INFLUENCE, schema.EFFORT)
        .sort(schema.SAMPLE_ID)
    )


def _model_name(night: Night, base: str) -> str:
    """Changes with everything that effort depends on beside the sample."""
    config = night.config
    parts = [config.effort, config.fine_tune.lora, config.recommender.prompt]
    return fingerprint([base, str(config.run.seed), *(part.model_dump_json() for part in parts)])[:16]


def _known_efforts(night: Night, model_name: str) -> pl.DataFrame:
    if not night.lake.exists("efforts"):
        return pl.DataFrame(schema=schema.EFFORTS).drop(schema.NIGHT)
    recorded = night.find("effort")
    return (
        night.lake.scan("efforts", recorded.version if recorded else None)
        .filter(pl.col(schema.MODEL) == model_name)
        .unique([schema.SAMPLE_ID, schema.CONTENT], keep="any")
        .select(schema.SAMPLE_ID, schema.CONTENT, schema.MODEL, schema.EFFORT)
        .collect()
    )


def _with_content(samples: pl.DataFrame) -> pl.DataFrame:
    """Adds the text that tells two samples of one id apart: the history and the target."""
    words = pl.concat_str(pl.col(schema.HISTORY).list.join("\x1f"), pl.lit("\x1e"), pl.col(schema.ITEM_ID))
    hashed = [fingerprint([text])[:16] for text in samples.select(words).to_series()]
    return samples.with_columns(pl.Series(schema.CONTENT, hashed, dtype=pl.String))
