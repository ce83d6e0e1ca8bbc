"""Writes settings.md, the page of all settings, from the settings themselves: python docs/settings.py."""

from collections.abc import Iterable
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dealrec_core.settings import Config
from dealrec_core.settings.section import leaves, section_of

HEAD = """# Settings

This page lists all settings of a night. They are written in a TOML file like `deployments/pipeline.toml`; a setting that the
file does not name has its default. An environment variable (`DEALREC_CORESET__RATIO=0.05`) wins over the file, and
`--set coreset.ratio=0.05` wins over both. A misspelt name is an error that names the nearest setting. `docs/settings.py`
writes this page.
"""

FIRST = (
    "sources.root",
    "sources.interactions.files",
    "sources.interactions.filter",
    "lake.root",
    "registry.tracking_uri",
    "recommender.prompt.items",
    "language_model.base_model",
    "recommender.backend",
    "samples.history_length",
    "coreset.ratio",
    "coreset.method",
    "fine_tune.epochs",
    "fine_tune.learning_rate",
    "evaluation.k",
    "gate.confidence",
)
"""The settings that a newcomer meets, in that order."""

APPENDIX = """# Appendix: all settings by section

Most nights need none of these. There is one length of histories: `samples.history_length` limits the history of a
sample, and therefore what the surrogate, TIGER and the evaluation read. `recommender.titles` is smaller, because
every title in a prompt of BIGRec costs tokens. Switches for research, such as the curvature or the shape of TIGER's
layers, are settings of a study (`dealrec_core/study/config.py`); a night uses their defaults.
"""

COLUMNS = "| setting | default | values | what it controls, in which unit, and when to change it |\n|---|---|---|---|"


def page() -> str:
    """The whole page: the first fifteen settings, then every section."""
    fields = dict(leaves(Config))
    first = [_row(name, fields[name]) for name in FIRST]
    return "\n".join(
        [HEAD, "## Settings you may want to change", "", COLUMNS, *first, "", APPENDIX, *_sections(Config)]
    )


def _sections(section: type[BaseModel], name: str = "") -> list[str]:
    """The table of one section, then those of the sections inside it."""
    inner = {key: below for key, field in section.model_fields.items() if (below := section_of(field))}
    rows = [_row(key, field) for key, field in section.model_fields.items() if key not in inner]
    lines = [f"## [{name}]", (section.__doc__ or "").splitlines()[0], "", COLUMNS, *rows, ""] if rows else []
    for key, below in inner.items():
        lines += _sections(below, f"{name}.{key}".lstrip("."))
    return lines


def _row(name: str, field: FieldInfo) -> str:
    default = "needed" if field.is_required() else _toml(field.default)
    description = " ".join((field.description or "").split())
    cells = [f"`{name}`", default, _allowed(field), description]
    return "| " + " | ".join(cell.replace("|", "\\|").replace("<name>", "NAME") for cell in cells) + " |"


def _toml(value: Any) -> str:
    """A value as TOML writes it. TOML has no none: such a setting is left out."""
    if value is None:
        return "none"
    text = str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')
    return f"`{text}`"


def _allowed(field: FieldInfo) -> str:
    """The values that a setting takes: its choices, or its kind with its bounds."""
    kinds = [text for part in _parts(field.annotation) if (text := _kind(part))]
    return ", ".join([*kinds, *_bounds(field.metadata)])


BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
KINDS = {str: "text", int: "whole number", float: "number", bool: "true, false", NoneType: ""}
KINDS |= {list: "a list of texts", dict: "a number for each text"}


def _kind(part: Any) -> str:
    if get_origin(part) is Literal:
        return ", ".join(map(str, get_args(part)))
    if get_origin(part) is Annotated:
        kind, *notes = get_args(part)
        return ", ".join([_kind(kind), *_bounds(note for field in notes for note in field.metadata)])
    return KINDS[get_origin(part) or part]


def _bounds(notes: Iterable[Any]) -> list[str]:
    return [f"{sign} {getattr(note, name)}" for note in notes for name, sign in BOUNDS.items() if hasattr(note, name)]


def _parts(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(page(), encoding="utf-8")
