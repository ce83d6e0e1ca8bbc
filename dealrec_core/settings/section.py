"""The base class of every section: frozen, documented field by field, and strict about its keys."""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo


class Section(BaseModel):
    """A part of a settings file: frozen, and a misspelt key is an error. A value that is refused may be a password: no traceback has it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True)


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The section that a field holds, None where it holds a value."""
    annotations: list[Any] = [field.annotation, *get_args(field.annotation)]
    return next((kind for kind in annotations if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def leaves(tree: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting of a tree with its dotted name, such as ('coreset.ratio', ...), in the order of the sections."""
    for name, field in tree.model_fields.items():
        inner = section_of(field)
        if inner is None:
            yield f"{prefix}{name}", field
        else:
            yield from leaves(inner, f"{prefix}{name}.")
