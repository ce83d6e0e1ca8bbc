"""The backends by name, and the rules about their bases and champions that both follow."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import torch

from dealrec_core import schema
from dealrec_core.errors import OtherFormat, SettingsError
from dealrec_core.recommenders import bundle
from dealrec_core.recommenders.bigrec_backend import BIGRecBackend
from dealrec_core.recommenders.protocol import Backend, BackendSettings, ItemStatistics, OpenedBase, Tuned
from dealrec_core.recommenders.tiger_backend import TigerBackend

__all__ = [
    "BASE",
    "Backend",
    "BackendSettings",
    "ItemStatistics",
    "OpenedBase",
    "Tuned",
    "build",
    "older_half",
    "usable_champion",
]

BACKENDS: dict[str, Callable[[BackendSettings, torch.device, int], Backend]] = {
    "bigrec": BIGRecBackend,
    "tiger": TigerBackend,
}
BASE = "base"
"""Key of a bundle's lineage: hash of the base model it was tuned from."""


def build(name: str, settings: BackendSettings, *, device: torch.device, seed: int) -> Backend:
    """The backend of that name.

    Raises:
        SettingsError: there is none of that name.
    """
    if name not in BACKENDS:
        raise SettingsError(f"no backend '{name}'; there are {', '.join(BACKENDS)}")
    return BACKENDS[name](settings, device, seed)


def older_half(train: pl.DataFrame) -> pl.DataFrame:
    """The samples up to the median time: the base may know the past, recent samples are left to fine-tuning."""
    return train.filter(pl.col(schema.TIMESTAMP) <= pl.col(schema.TIMESTAMP).median())


def usable_champion(folder: Path | None, *, name: str, base_sha256: str) -> Path | None:
    """The bundle of the model in charge, where it was tuned by the backend of that name from this base; else None.

    A bundle of another format counts as none.

    Raises:
        DataError: the bundle is torn.
    """
    if folder is None:
        return None
    try:
        described = bundle.description(folder)
    except OtherFormat:
        return None
    fits = described["kind"] == name and described["lineage"].get(BASE) == base_sha256
    return folder if fits else None
