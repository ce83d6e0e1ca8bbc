"""What tonight's selection method asks of the samples beside influence and effort, computed only for the method that asks."""

from collections.abc import Iterator

import numpy as np
import polars as pl
from torch import Tensor

from dealrec_core import schema
from dealrec_core.coreset import projection, traits
from dealrec_core.coreset.methods import NEEDS
from dealrec_core.errors import SettingsError
from dealrec_core.lake.nights import Night
from dealrec_core.language import effort
from dealrec_core.language.prompts import Prompter
from dealrec_core.recommenders import hidden
from dealrec_core.samples import sequences
from dealrec_core.settings.surrogate import EarlyConfig
from dealrec_core.surrogate import early
from tasks.base_model import base_model_of, examples
from tasks.catalogue import full_catalogue, log_before_validation
from tasks.ingest import samples_of
from tasks.stage import device
from tasks.surrogate import surrogate_of

Arrays = dict[str, np.ndarray]
OF_LANGUAGE_MODEL = frozenset({"hidden", "text", "vector", "gradient", "layer_gradients", "adam_gradient"})
AIMS = 256
"""Most recent held-out samples that methods with an aim aim at."""
WIDTH = 16
"""Rows that each LoRA gradient is projected to."""


def features_of(night: Night) -> tuple[Arrays, Arrays]:
    """Features of the train samples and of the aims, by name, for the configured method; samples sorted by sample_id."""
    needs = set(NEEDS[night.config.coreset.method])
    _check(night, needs)
    train = samples_of(night, "train")
    aims = samples_of(night, "validation").sort(schema.TIMESTAMP, schema.SAMPLE_ID).tail(AIMS)
    pool: Arrays = {}
    aimed: Arrays = {}
    if needs & {"category", "popularity", "recency", "history_length", "owner"}:
        pool |= {name: values for name, values in _traits(night, train).items() if name in needs}
    if "item" in needs:
        pool["item"], aimed["item"] = _items(night, train), _items(night, samples_of(night, "validation"))
    if needs & {"el2n", "grand", "user"}:
        pool |= {name: values for name, values in _of_surrogate(night, train, needs).items() if name in needs}
    if needs & {"hidden", "text", "vector"}:
        of_pool, of_aims = _hidden(night, train), _hidden(night, aims)
        alike = needs & {"hidden", "text", "vector"}
        pool |= dict.fromkeys(alike, of_pool)
        aimed |= dict.fromkeys(alike, of_aims)
    if needs & {"gradient", "layer_gradients"}:
        pool |= _gradients(night, train, needs)
        aimed |= _gradients(night, aims, needs)
    if "adam_gradient" in needs:
        pool["adam_gradient"] = _adam_gradients(night, train)
    if night.config.coreset.tokens or night.config.coreset.gpu_minutes:
        pool["tokens"] = _tokens(night, train)
    return pool, aimed


def _check(night: Night, needs: set[str]) -> None:
    """What comes from a language model needs one; in a study every method runs with TIGER too."""
    settings = night.config.coreset
    asked = sorted(needs & OF_LANGUAGE_MODEL) + ["tokens"] * bool(settings.tokens or settings.gpu_minutes)
    if asked and night.config.recommender.backend == "tiger":
        raise SettingsError(
            f"coreset.method '{settings.method}' asks for {', '.join(asked)} of a language model, and recommender.backend "
            "is 'tiger'; choose another method or budget, or compare them with `dealrec study`"
        )


def _traits(night: Night, train: pl.DataFrame) -> Arrays:
    counts = log_before_validation(night).group_by(schema.ITEM_ID).len().collect()
    return traits.of(train, full_catalogue(night), dict(zip(counts[schema.ITEM_ID], counts["len"], strict=True)))


def _items(night: Night, samples: pl.DataFrame) -> np.ndarray:
    """The number of each sample's target in the catalogue, (N,)."""
    number = {item: place for place, item in enumerate(full_catalogue(night).item_ids)}
    return np.array([number[item] for item in samples[schema.ITEM_ID]])


def _of_surrogate(night: Night, train: pl.DataFrame, needs: set[str]) -> Arrays:
    model, item_ids = surrogate_of(night)
    encoded = sequences.encode(train, item_ids)
    if "user" in needs:
        return {"user": early.states(model, encoded, device=device(night))}
    return early.norms(
        encoded,
        sequences.encode(samples_of(night, "validation"), item_ids),
        item_count=len(item_ids),
        surrogate=night.config.algorithms.surrogate,
        config=EarlyConfig(),
        seed=night.config.run.seed,
        device=device(night),
    )


def _hidden(night: Night, samples: pl.DataFrame) -> np.ndarray:
    model, tokenizer = base_model_of(night).load(device(night))
    return hidden.of_examples(
        model,
        tokenizer,
        examples(night, samples),
        prompt=night.config.recommender.prompt,
        batch_tokens=night.config.effort.batch_tokens,
        device=device(night),
    )


def _gradients(night: Night, samples: pl.DataFrame, needs: set[str]) -> Arrays:
    parts = projection.projected(_raw(night, samples), len(samples), width=WIDTH, seed=night.config.run.seed)
    if "layer_gradients" in needs:
        return {f"gradient.{place:03d}": part for place, part in enumerate(parts)}
    return {"gradient": np.concatenate(parts, axis=1)}


def _adam_gradients(night: Night, train: pl.DataFrame) -> np.ndarray:
    some = train.sample(min(512, len(train)), seed=night.config.run.seed)
    parts = projection.adam_projected(
        lambda: _raw(night, train), lambda: _raw(night, some), len(train), width=WIDTH, seed=night.config.run.seed
    )
    return np.concatenate(parts, axis=1)


def _raw(night: Night, samples: pl.DataFrame) -> Iterator[tuple[np.ndarray, dict[str, Tensor]]]:
    model, tokenizer = base_model_of(night).load(device(night))
    return effort.example_gradients(
        model,
        tokenizer,
        examples(night, samples),
        prompt=night.config.recommender.prompt,
        config=night.config.algorithms.effort,
        lora=night.config.algorithms.fine_tune.lora,
        seed=night.config.run.seed,
        device=device(night),
    )


def _tokens(night: Night, train: pl.DataFrame) -> np.ndarray:
    _, tokenizer = base_model_of(night).load(device(night))
    prompter = Prompter(tokenizer, night.config.recommender.prompt)
    return np.array([prompter.length(example) for example in examples(night, train)], dtype=np.int64)
