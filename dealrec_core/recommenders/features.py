"""Features of samples that selection methods use beside influence and effort: one function a source, called only when a method needs it.

A feature of N samples is an array (N,) or (N, D). Methods that aim at recent samples get the feature of these aims too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import torch

from dealrec_core.coreset import projection, traits
from dealrec_core.recommenders import backend
from dealrec_core.recommenders.backend import OpenedBase
from dealrec_core.samples.items import Catalogue, numbers
from dealrec_core.samples.sequences import encode
from dealrec_core.settings.surrogate import EarlyConfig, SurrogateConfig
from dealrec_core.surrogate import early

Arrays = dict[str, np.ndarray]
ADAM_SAMPLES = 512
"""Samples that Adam's second moment is the mean over."""


@dataclass(frozen=True)
class FeatureInputs:
    """Inputs of the features. An input that costs time is a function and is called only for a feature that needs it.

    train: the samples to choose from. recent: held-out samples, which stop trainings. aims: the newest of them.
    counts: interactions of each item before the held-out samples. width: rows that each LoRA gradient is projected to.
    early_seed: seed of the early surrogates of EL2N and GraNd, `seed` when None.
    """

    train: pl.DataFrame
    recent: pl.DataFrame
    aims: pl.DataFrame
    catalogue: Callable[[], Catalogue]
    counts: Callable[[], Mapping[str, float]]
    base: Callable[[], OpenedBase]
    surrogate: Callable[[], tuple[Any, list[str]]]
    surrogate_config: SurrogateConfig
    seed: int
    device: torch.device
    early_seed: int | None = None
    width: int = 16
    early: EarlyConfig = field(default_factory=EarlyConfig)


Source = Callable[[FeatureInputs], tuple[Arrays, Arrays]]


def features(
    needs: set[str], inputs: FeatureInputs, sources: Mapping[tuple[str, ...], Source] | None = None
) -> tuple[Arrays, Arrays]:
    """The features of the train samples and of the aims, by name, of every source that a need belongs to.

    sources: by default `SOURCES`. `layer_gradients` stands for one feature a matrix.
    """
    pool: Arrays = {}
    aims: Arrays = {}
    for names, source in (sources or SOURCES).items():
        if needs & set(names):
            for side, arrays in zip((pool, aims), source(inputs), strict=True):
                asked = {name for name in arrays if name.startswith("gradient.") and "layer_gradients" in needs} | needs
                side |= {name: values for name, values in _complete(arrays).items() if name in asked}
    return pool, aims


def _complete(arrays: Arrays) -> Arrays:
    """Adds the other names of hidden states and effort, and `gradient`, all matrices together."""
    layers = [arrays[name] for name in arrays if name.startswith("gradient.")]
    joined = {"gradient": np.concatenate(layers, axis=1)} if layers else {}
    names = {"vector": "hidden", "text": "hidden", "gradient_norm": "effort"}
    return {**arrays, **joined, **{name: arrays[other] for name, other in names.items() if other in arrays}}


def of_traits(inputs: FeatureInputs) -> tuple[Arrays, Arrays]:
    """Category, popularity, recency, history length and owner of each sample."""
    return traits.of(inputs.train, inputs.catalogue(), inputs.counts()), {}


def of_items(inputs: FeatureInputs) -> tuple[Arrays, Arrays]:
    """The place of each sample's target in the catalogue; the aims are all recent samples."""
    item_ids = inputs.catalogue().item_ids
    return {"item": numbers(inputs.train, item_ids)}, {"item": numbers(inputs.recent, item_ids)}


def of_users(inputs: FeatureInputs) -> tuple[Arrays, Arrays]:
    """The surrogate's state after each history."""
    model, item_ids = inputs.surrogate()
    return {"user": early.states(model, encode(inputs.train, item_ids), device=inputs.device)}, {}


def of_early_training(inputs: FeatureInputs) -> tuple[Arrays, Arrays]:
    """EL2N and GraNd by surrogates that are still learning."""
    item_ids = inputs.surrogate()[1]
    norms = early.norms(
        encode(inputs.train, item_ids),
        encode(inputs.recent, item_ids),
        item_count=len(item_ids),
        surrogate=inputs.surrogate_config,
        config=inputs.early,
        seed=inputs.seed if inputs.early_seed is None else inputs.early_seed,
        device=inputs.device,
    )
    return norms, {}


def of_hidden_states(inputs: FeatureInputs) -> tuple[Arrays, Arrays]:
    """The base model's pooled hidden states; methods know them by two more names."""
    base = inputs.base()
    return {"hidden": base.hidden(inputs.train)}, {"hidden": base.hidden(inputs.aims)}


def of_gradients(inputs: FeatureInputs) -> tuple[Arrays, Arrays]:
    """Projected LoRA gradients of each matrix, `gradient.<n>`."""
    return _projected(inputs, inputs.train), _projected(inputs, inputs.aims)


def of_adam_gradients(inputs: FeatureInputs) -> tuple[Arrays, Arrays]:
    """Projected LoRA gradients, scaled as Adam scales a step."""
    base, train = inputs.base(), inputs.train
    some = train.sample(min(ADAM_SAMPLES, len(train)), seed=inputs.seed)
    of_train, of_some = (partial(backend.gradients, base, samples) for samples in (train, some))
    parts = projection.adam_projected(of_train, of_some, len(train), width=inputs.width, seed=inputs.seed)
    return {"adam_gradient": np.concatenate(parts, axis=1)}, {}


def of_lengths(inputs: FeatureInputs) -> tuple[Arrays, Arrays]:
    """Tokens that each sample costs in an epoch."""
    return {"tokens": inputs.base().tokens(inputs.train)}, {}


SOURCES: dict[tuple[str, ...], Source] = {
    ("category", "popularity", "recency", "history_length", "owner"): of_traits,
    ("item",): of_items,
    ("user",): of_users,
    ("el2n", "grand"): of_early_training,
    ("hidden", "vector", "text"): of_hidden_states,
    ("gradient", "layer_gradients"): of_gradients,
    ("adam_gradient",): of_adam_gradients,
    ("tokens",): of_lengths,
}
"""The features by the function that computes them together."""


def _projected(inputs: FeatureInputs, samples: pl.DataFrame) -> Arrays:
    gradients = backend.gradients(inputs.base(), samples)
    parts = projection.projected(gradients, len(samples), width=inputs.width, seed=inputs.seed)
    return {f"gradient.{number:03d}": part for number, part in enumerate(parts)}
