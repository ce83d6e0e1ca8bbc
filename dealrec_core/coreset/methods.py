"""The selection methods by name, and the features that each one needs."""

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
    "goracs": ("vector", "effort"),
    "gradsim-diverse": ("gradient",),
    "grand": ("grand",),
    "less": ("adam_gradient", "gradient"),
    "rds": ("hidden",),
    "recranker": ("user", "history_length", "owner"),
    "tf-dcon": ("user", "text"),
}
"""Features that each method needs of the samples, and of recent samples where it aims at them."""


def method(name: str) -> Method:
    """The method of that name; SettingsError lists those there are."""
    if name not in METHODS:
        raise SettingsError(f"no selection method '{name}'; there are {', '.join(METHODS)}")
    return METHODS[name]
