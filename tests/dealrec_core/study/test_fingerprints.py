"""A setting that changes the outcome of a cell makes it another cell; all settings are walked, and what uses them is written here again."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic.fields import FieldInfo

from dealrec_core.coreset.methods import NEEDS
from dealrec_core.settings.section import leaves
from dealrec_core.study.config import Cell, StudyConfig
from dealrec_core.study.fingerprints import FEATURES, fingerprint, sections_of
from tests.dealrec_core.study.conftest import settings

GRADIENTS = {"gradient", "layer_gradients", "adam_gradient"}
BY_EFFORT = {"effort", "gradient_norm"}
HIDDEN = {"hidden", "vector", "text"}
Uses = Callable[[str, set[str]], bool]


def needs(*features: str) -> Uses:
    return lambda backend, asked: bool(asked & set(features))


def by_language_model(backend: str, asked: set[str]) -> bool:
    """The proxy asks BIGRec's base for what only a language model knows of a sample."""
    return backend == "bigrec" or (backend == "proxy" and bool(asked & (GRADIENTS | BY_EFFORT | HIDDEN)))


def always(backend: str, asked: set[str]) -> bool:
    return True


def never(backend: str, asked: set[str]) -> bool:
    return False


def tiger(backend: str, asked: set[str]) -> bool:
    return backend == "tiger"


USES: dict[str, Uses] = {
    **dict.fromkeys(("seed", "judges", "cutoff", "evaluation", "datasets", "coreset"), always),
    "surrogate": needs("influence", "user", "el2n", "grand"),
    "early": needs("el2n", "grand"),
    "influence": needs("influence"),
    "effort": needs(*BY_EFFORT, *GRADIENTS),
    "aims": needs("gradient", "layer_gradients", *HIDDEN),
    "gradient_width": needs(*GRADIENTS),
    **dict.fromkeys(("language_model", "bigrec"), by_language_model),
    "fine_tune": lambda backend, asked: backend != "proxy" or by_language_model(backend, asked),
    **dict.fromkeys(("semantic_ids", "tiger", "pretraining_epochs", "tuning_rate"), tiger),
    "proxy": lambda backend, asked: backend == "proxy",
    # which cells there are and how they are compared and kept; the cell's own name holds method and ratio
    **dict.fromkeys(
        ("name", "folder", "reference", "metric", "primary", "confidence", "grids", "only", "device"), never
    ),
    **dict.fromkeys(("experiment", "tracking_uri", "influences", "variants"), never),
}
"""Whether a cell of a backend, whose method has these needs, depends on the settings of a section."""
OF_THE_CELL = {"coreset.ratio"}


def other(value: Any, field: FieldInfo) -> Any:
    """Another value that the field allows, None where this test knows none."""
    kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if kind is not NoneType]
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind) if isinstance(word, str)]
    if words:
        return next((word for word in words if word != value), 7)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float) and value:
        return value + 1 if isinstance(value, int) else value * 0.9
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, tuple):
        return (*value, 3)
    return {int: 3, float: 0.25}.get(next((kind for kind in kinds if kind in (int, float)), str))


def changed(config: StudyConfig, name: str, field: FieldInfo) -> StudyConfig | None:
    """The study with another value of one setting."""
    first, *rest = name.split(".")
    top = getattr(config, first)
    if first == "datasets":
        section = top["tiny"]
        value = other(getattr(section, rest[0]), field) if len(rest) == 1 else None
        return value and config.model_copy(update={"datasets": {"tiny": section.model_copy(update={rest[0]: value})}})
    path = [config]
    for part in (first, *rest[:-1]) if rest else ():
        path.append(getattr(path[-1], part))
    value = other(getattr(path[-1], rest[-1] if rest else first), field)
    if value is None:
        return None
    for holder, part in zip(reversed(path), reversed((first, *rest)), strict=True):
        value = holder.model_copy(update={part: value})
    return value


def walked(config: StudyConfig) -> Iterator[tuple[str, StudyConfig]]:
    """Every setting with a study in which it is another; those of which this test knows no other value are left out."""
    for name, field in leaves(StudyConfig):
        if name.split(".")[0] not in ("grids", "primary", "variants", "influences", "only"):
            study = changed(config, name, field)
            if study is not None:
                yield name, study


def test_a_setting_changes_the_fingerprint_of_those_cells_that_depend_on_it_and_of_no_other(tmp_path: Path):
    """One method that depends on the setting and one that does not, where there are such, with each backend."""
    config, count = StudyConfig.model_validate(settings(tmp_path)), 0
    for name, study in walked(config):
        uses = USES[name.split(".")[0]] if name not in OF_THE_CELL else never
        for backend in ("tiger", "bigrec", "proxy"):
            methods = {uses(backend, set(asked)): method for method, asked in NEEDS.items()}
            for depends, method in methods.items():
                cell, count = Cell("tiny", backend, "sasrec", method, 0.1, 0), count + 1
                assert (fingerprint(study, cell) != fingerprint(config, cell)) == depends, (name, backend, method)
    assert count > 400


def test_every_setting_of_a_study_is_classified_above():
    assert set(USES) == set(StudyConfig.model_fields)


@pytest.mark.parametrize("method", NEEDS)
def test_every_need_declares_what_it_depends_on(method):
    assert set(sections_of(NEEDS[method])) <= {"base", *USES}
    assert set(NEEDS[method]) <= {name for names in FEATURES for name in names}


def test_a_cell_that_the_review_found_stale_is_another_now(tmp_path: Path):
    """Methods that aim depend on the number of aims, and methods by gradients on which parameters effort is over."""
    config = StudyConfig.model_validate(settings(tmp_path))
    for method in ("rds", "goracs", "tf-dcon"):
        cell = Cell("tiny", "tiger", "none", method, 0.1, 0)
        assert fingerprint(config.model_copy(update={"aims": 11}), cell) != fingerprint(config, cell)
    effort = config.effort.model_copy(update={"parameters": "last"})
    for method in ("less", "datainf", "gradsim-diverse"):
        cell = Cell("tiny", "tiger", "none", method, 0.1, 0)
        assert fingerprint(config.model_copy(update={"effort": effort}), cell) != fingerprint(config, cell)
