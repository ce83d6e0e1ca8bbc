"""The selection methods by name."""

from typing import Literal

from dealrec_core.coreset import (
    ccs,
    coverage,
    datainf,
    dealrec,
    dealrec_released,
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

NightMethod = Literal["dealrec", "dealrec-released", "greedy", "random"]
"""Those that need influence and effort alone, which every night has."""

METHODS: dict[str, Method] = {
    "dealrec": dealrec.choose,
    "dealrec-released": dealrec_released.choose,
    "greedy": greedy.choose,
    "random": uniform.choose,
    "ccs": ccs.choose,
    "coverage": coverage.choose,
    "datainf": datainf.choose,
    "el2n": el2n.choose,
    "goracs": goracs.choose,
    "gradsim-diverse": gradsim_diverse.choose,
    "grand": grand.choose,
    "less": less.choose,
    "rds": rds.choose,
    "recranker": recranker.choose,
    "tf-dcon": tf_dcon.choose,
}


def method(name: str) -> Method:
    """The method of that name; SettingsError lists those there are."""
    if name not in METHODS:
        raise SettingsError(f"no selection method '{name}'; there are {', '.join(METHODS)}")
    return METHODS[name]
