"""Writes settings.md, the page of all settings, from the settings themselves: python docs/settings.py."""

from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dealrec_core.settings import Config

HEAD = """# Settings

All settings of a night, in a TOML file like `deployments/pipeline.toml`; what the file leaves out has its default. The
environment wins over the file (`DEALREC_CORESET__RATIO=0.05`), and `--set coreset.ratio=0.05` over both. A misspelt
name is an error that names the nearest one. This page is written by `docs/settings.py`.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_sections(Config, "")])


def _sections(section: type[BaseModel], name: str) -> list[str]:
    """The table of one section, then those of the sections inside it."""
    inner = {key: found for key, field in section.model_fields.items() if (found := _section_of(field.annotation))}
    own = {key: field for key, field in section.model_fields.items() if key not in inner}
    lines = [f"## [{name}]", _first_line(section.__doc__), ""] if own else []
    if own:
        lines += ["| setting | default | may be | |", "|---|---|---|---|"]
        lines += [_row(key, field) for key, field in own.items()]
        lines += [""]
    for key, found in inner.items():
        lines += _sections(found, f"{name}.{key}".lstrip("."))
    return lines


def _section_of(annotation: Any) -> type[BaseModel] | None:
    candidates = [annotation, *get_args(annotation)]
    return next((each for each in candidates if isinstance(each, type) and issubclass(each, BaseModel)), None)


def _row(name: str, field: FieldInfo) -> str:
    default = "needed" if field.is_required() else _toml(field.default)
    said = " ".join((field.description or "").split())
    cells = [f"`{name}`", default, _allowed(field), f"{field.title or name}. {said}".strip()]
    return "| " + " | ".join(cell.replace("|", "\\|").replace("<name>", "NAME") for cell in cells) + " |"


def _toml(value: Any) -> str:
    """A value as it stands in TOML, which has no none: such a setting is left out."""
    if value is None:
        return "none"
    text = str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')
    return f"`{text}`"


def _allowed(field: FieldInfo) -> str:
    choices = [choice for part in _parts(field.annotation) for choice in get_args(part) if get_origin(part) is Literal]
    if choices:
        return ", ".join(map(str, choices))
    bounds = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    limits = [
        f"{sign} {getattr(limit, name)}"
        for limit in field.metadata
        for name, sign in bounds.items()
        if getattr(limit, name, None) is not None
    ]
    kinds = [part.__name__ for part in _parts(field.annotation) if isinstance(part, type) and part is not type(None)]
    return ", ".join([*(NAMES.get(kind, kind) for kind in kinds), *limits]) or "a list of texts"


NAMES = {"str": "text", "int": "whole number", "float": "number", "bool": "true, false", "list": "a list of texts"}


def _parts(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)


def _first_line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0]


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(page(), encoding="utf-8")
