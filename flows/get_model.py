"""Gets a base model for this machine, once."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from dealrec_core.errors import SettingsError
from dealrec_core.language import bases, known


class GotModel(BaseModel):
    """A base model on this machine."""

    model_config = ConfigDict(frozen=True)

    name: str
    """Value for `language_model.base_model`."""
    folder: str
    sha256: str
    was_there: bool


def get_model(name: str, source: Path | None = None) -> GotModel:
    """Fetches and converts a known model, copies one from a folder, or fills the hub's cache.

    Raises:
        SettingsError: it cannot be had; the message names the next step.
        DataError: what came is not the known model.
    """
    was_there = False
    if source is not None and source.is_dir():
        base = bases.keep(name, source)
    elif name in known.MODELS:
        was_there = not known.get(name, bases.models_folder() / name, source=source)
        base = bases.locate(name)
    elif source is not None:
        raise SettingsError(f"'{source}' is not a folder; only {', '.join(known.MODELS)} can be made from a file")
    else:
        base = bases.locate(name)
    return GotModel(name=base.name, folder=str(base.folder), sha256=base.sha256, was_there=was_there)
