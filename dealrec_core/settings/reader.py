"""Reads settings: --set options over DEALREC_* environment variables over the TOML file over the defaults."""

import difflib
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from dealrec_core.errors import SettingsError
from dealrec_core.settings.moved import VALUES, hint
from dealrec_core.settings.run import SECRET
from dealrec_core.settings.section import section_of
from dealrec_core.settings.tree import Config

EXTENDS = "extends"
"""Key of a study's file that names the file whose settings it changes."""
Settings = TypeVar("Settings", bound=BaseModel)


def found() -> str:
    """Returns the settings file where none is named: DEALREC_CONFIG, pipeline.toml of this folder, or deployments/pipeline.toml."""
    here = "pipeline.toml" if Path("pipeline.toml").exists() else "deployments/pipeline.toml"
    return os.environ.get("DEALREC_CONFIG") or here


def load(path: Path | str, overrides: Sequence[str] = ()) -> Config:
    """Settings from a TOML file; `overrides` are like 'coreset.ratio=0.05': values as in TOML, other words as text.

    Raises:
        SettingsError: the file is missing or not TOML, or a key or value is not valid. The message names the key.
    """
    from pydantic_settings import EnvSettingsSource  # here: it would double the time that importing the settings takes

    from_environment = EnvSettingsSource(Config, env_prefix="DEALREC_", env_nested_delimiter="__")  # type: ignore[arg-type]
    return _validated(Config, path, _deep(_toml(Path(path)), from_environment()), overrides)


def read(tree: type[Settings], path: Path | str, overrides: Sequence[str] = ()) -> Settings:
    """The settings of another tree, such as a study's, from a TOML file; the environment is not read.

    A file with `extends = "other.toml"` changes the settings of that file, which lies beside it and extends none.

    Raises:
        SettingsError: as for `load`.
    """
    own = _toml(Path(path))
    below = _toml(Path(path).parent / str(own.pop(EXTENDS))) if EXTENDS in own else {}
    return _validated(tree, path, _deep(below, own), overrides)


def _validated(tree: type[Settings], path: Path | str, merged: dict[str, Any], overrides: Sequence[str]) -> Settings:
    for override in overrides:
        merged = _deep(merged, _nested(override))
    try:
        return tree.model_validate(merged)
    except ValidationError as error:
        raise SettingsError(f"{path}: {_first(error, tree)}") from error


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"no settings file '{path}'; name one with --config; `dealrec init` writes one") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"cannot read settings file '{path}': {error}") from error


def _nested(override: str) -> dict[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise SettingsError(f"--set '{override}' is not of the form section.key=value")
    nested: Any = _value(text)
    for part in reversed(key.strip().split(".")):
        nested = {part: nested}
    return dict(nested)


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _deep(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        inner = merged.get(key)
        merged[key] = _deep(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return merged


def _first(error: ValidationError, tree: type[BaseModel]) -> str:
    """One line about the first fault: what, where, what was given, and the nearest name for a misspelt key."""
    fault = error.errors()[0]
    name = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"unknown setting '{name}'; {hint(name) or _nearest(fault['loc'], tree)}"
    if fault["type"] == "missing":
        return f"setting '{name}' is missing; add it"
    if fault["type"] == SECRET:
        return f"setting '{name}': {fault['msg']}"
    advice = "; this value is for studies" if str(fault["input"]) in VALUES.get(name, ()) else ""
    return f"setting '{name}' = {fault['input']!r}: {fault['msg']}{advice}"


def _nearest(location: tuple[int | str, ...], tree: type[BaseModel]) -> str:
    names = list(_section(location[:-1], tree).model_fields)
    near = difflib.get_close_matches(str(location[-1]), names, n=1)
    return f"did you mean '{near[0]}'?" if near else f"the names here are {', '.join(names)}"


def _section(location: tuple[int | str, ...], tree: type[BaseModel]) -> type[BaseModel]:
    section = tree
    for part in location:
        field = section.model_fields.get(str(part))
        section = (section_of(field) if field else None) or section
    return section
