"""The selection methods by name, the features they need, and the computations that give these features."""

from collections.abc import Mapping

import numpy as np

from dealrec_core.coreset import (
    ccs,
    coverage,
    datainf,
    dealrec,
    dealrec_released,
    dsir,
    el2n,
    goracs,
    gradsim_diverse,
    grand,
    greedy,
    less,
    rds,
    recranker,
    tf_dcon,
    uniform,
)
from dealrec_core.coreset.base import Method
from dealrec_core.errors import SettingsError

METHODS: dict[str, Method] = {
    "dealrec": dealrec.choose,
    "dealrec-released": dealrec_released.choose,
    "greedy": greedy.choose,
    "random": uniform.choose,
    "ccs": ccs.choose,
    "coverage": coverage.choose,
    "datainf": datainf.choose,
    "dsir": dsir.choose,
    "el2n": el2n.choose,
    "goracs": goracs.choose,
    "gradsim-diverse": gradsim_diverse.choose,
    "grand": grand.choose,
    "less": less.choose,
    "rds": rds.choose,
    "recranker": recranker.choose,
    "tf-dcon": tf_dcon.choose,
}

NEEDS: dict[str, tuple[str, ...]] = {
    "dealrec": ("influence", "effort"),
    "dealrec-released": ("influence", "effort"),
    "greedy": ("influence", "effort"),
    "random": (),
    "ccs": ("el2n",),
    "coverage": ("influence", "effort", "category", "popularity", "recency"),
    "datainf": ("layer_gradients",),
    "dsir": ("item",),
    "el2n": ("el2n",),
    "goracs": ("vector", "gradient_norm"),
    "gradsim-diverse": ("gradient",),
    "grand": ("grand",),
    "less": ("adam_gradient", "gradient"),
    "rds": ("hidden",),
    "recranker": ("user", "history_length", "owner"),
    "tf-dcon": ("user", "text"),
}
"""Features that each method needs of the samples, and of recent samples where it aims at them."""

SOURCES: dict[str, tuple[str, ...]] = {
    "influence": ("influence",),
    "effort": ("effort", "gradient_norm"),
    "early": ("el2n", "grand"),
    "user": ("user",),
    "hidden": ("hidden", "vector", "text"),
    "gradient": ("gradient", "layer_gradients"),
    "adam_gradient": ("adam_gradient",),
    "traits": ("category", "popularity", "recency", "history_length", "owner"),
    "item": ("item",),
}
"""Features that one computation gives, by the name of the computation."""

LANGUAGE_MODEL_SOURCES = ("hidden", "gradient", "adam_gradient")
"""Sources that ask a language model beside effort."""


def sources(name: str) -> tuple[str, ...]:
    """Computations whose features the method needs, in the order of its needs.

    >>> sources("coverage")
    ('influence', 'effort', 'traits')
    """
    by_feature = {feature: source for source, features in SOURCES.items() for feature in features}
    return tuple(dict.fromkeys(by_feature[feature] for feature in NEEDS[name]))


def asked(features: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """The features that the method reads; `gradient.<layer>` belongs to layer_gradients.

    >>> list(asked({"gradient": np.ones(1), "gradient.000": np.ones(1), "user": np.ones(1)}, "datainf"))
    ['gradient.000']
    """
    needs = NEEDS[name]
    return {
        feature: values
        for feature, values in features.items()
        if feature in needs or (feature.startswith("gradient.") and "layer_gradients" in needs)
    }


def of_language_model(name: str) -> list[str]:
    """Features of the method, sorted, that only a language model gives: hidden states and gradients.

    >>> of_language_model("less"), of_language_model("dealrec")
    (['adam_gradient', 'gradient'], [])
    """
    return sorted(set(NEEDS[name]) & {feature for source in LANGUAGE_MODEL_SOURCES for feature in SOURCES[source]})


def method(name: str) -> Method:
    """The method of that name; SettingsError lists those there are."""
    if name not in METHODS:
        raise SettingsError(f"no selection method '{name}'; there are {', '.join(METHODS)}")
    return METHODS[name]
