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
    targeted,
    tf_dcon,
    uniform,
)
from dealrec_core.coreset.base import Method
from dealrec_core.errors import SettingsError

_TABLE: dict[str, tuple[Method, tuple[str, ...]]] = {
    "dealrec": (dealrec.choose, ("influence", "effort")),
    "dealrec-released": (dealrec_released.choose, ("influence", "effort")),
    "greedy": (greedy.choose, ("influence", "effort")),
    "random": (uniform.choose, ()),
    "ccs": (ccs.choose, ("el2n",)),
    "coverage": (coverage.choose, ("influence", "effort", "category", "popularity", "recency")),
    "datainf": (datainf.choose, ("layer_gradients",)),
    "dsir": (dsir.choose, ("item",)),
    "el2n": (el2n.choose, ("el2n",)),
    "goracs": (goracs.choose, ("vector", "effort")),
    "gradsim-diverse": (gradsim_diverse.choose, ("gradient",)),
    "grand": (grand.choose, ("grand",)),
    "less": (less.choose, ("adam_gradient", "gradient")),
    "rds": (rds.choose, ("hidden",)),
    "recranker": (recranker.choose, ("user", "history_length", "owner")),
    "targeted": (targeted.choose, ("item", "category")),
    "tf-dcon": (tf_dcon.choose, ("user", "text")),
}
"""The methods, with the features that each needs of the samples, and of recent samples where it aims at them."""
METHODS = {name: choose for name, (choose, _) in _TABLE.items()}
NEEDS = {name: needs for name, (_, needs) in _TABLE.items()}


def method(name: str) -> Method:
    """The method of that name; SettingsError lists those there are."""
    if name not in METHODS:
        raise SettingsError(f"no selection method '{name}'; there are {', '.join(METHODS)}")
    return METHODS[name]
