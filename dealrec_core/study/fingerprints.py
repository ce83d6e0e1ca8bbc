"""Everything that a cell's outcome depends on, declared once: it names the files of shared things, and tells cells of
other settings apart."""

import hashlib
import json
from collections.abc import Iterable

from dealrec_core.coreset.methods import NEEDS
from dealrec_core.study.config import Cell, StudyConfig

FORMAT = 3
"""Counts up when the same settings come to mean something else, so that no old cell or shared model is taken for a new one."""
BASE = "base"
"""Stands for the settings of the base model that a feature comes from."""
FEATURES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("influence",): ("surrogate",),
    ("user",): ("surrogate",),
    ("el2n", "grand"): ("surrogate", "early"),
    ("effort", "gradient_norm"): (BASE, "effort"),
    ("hidden", "vector", "text"): (BASE, "aims"),
    ("gradient", "layer_gradients"): (BASE, "effort", "aims", "gradient_width"),
    ("adam_gradient",): (BASE, "effort", "gradient_width"),
    ("tokens",): (BASE,),
    ("category", "popularity", "recency", "history_length", "owner"): (),
    ("item",): (),
}
"""The settings that a feature depends on beside the data set and the seed, by the features that are computed together."""
TUNING = {
    "bigrec": ("language_model", "bigrec", "fine_tune"),
    "tiger": ("semantic_ids", "tiger", "fine_tune", "pretraining_epochs", "tuning_rate"),
    "proxy": ("proxy",),
}
"""The settings of a backend's base and of its tuning."""
MEASURING = ("evaluation", "cutoff", "judges", "seed")


def sections_of(names: Iterable[str]) -> tuple[str, ...]:
    """The settings that any of these features depends on, each once.

    Raises:
        KeyError: a feature declares nothing; add it to FEATURES.
    """
    by_name = {name: sections for together, sections in FEATURES.items() for name in together}
    return tuple(sorted({section for name in names for section in by_name[name]}))


def asked(backend: str) -> str:
    """The backend that a cell's features come from: the proxy has no base of its own and asks BIGRec's."""
    return "bigrec" if backend == "proxy" else backend


def fingerprint(config: StudyConfig, cell: Cell) -> str:
    """16 hex digits over the settings that this cell depends on: with others it is another cell."""
    needs = NEEDS[config.variant(cell.method).method]
    sections = {*sections_of(needs), *TUNING[cell.backend], *MEASURING}
    if BASE in sections:
        sections |= {*TUNING[asked(cell.backend)]}
    described = {
        "format": FORMAT,
        "cell": list(cell),
        "dataset": config.datasets[cell.dataset].model_dump(),
        "selection": config.selection(cell).model_dump(),
        "influence": config.influence_of(cell).model_dump() if "influence" in needs else None,
        "settings": config.model_dump(include=sections - {BASE}),
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]
