"""The champion's bundle, as far as tonight can use it, and TIGERs out of bundles."""

from pathlib import Path

import torch

from dealrec_core.errors import OtherFormat
from dealrec_core.lake.nights import Night
from dealrec_core.recommenders import bundle
from dealrec_core.recommenders.tiger import Tiger
from tasks import storage

BASE = "base"
"""Key of a bundle's lineage: hash of the base model it was tuned from."""


def champion_folder(night: Night) -> Path | None:
    """The champion's bundle; None without one, or with one of another format, which no longer counts."""
    champion = night.manifest.champion
    if champion is None:
        return None
    folder = storage.local_copy(night.lake, champion.bundle, home=night.config.run.home)
    try:
        bundle.description(folder)
    except OtherFormat:
        return None
    return folder


def champion_on(night: Night, base_sha256: str) -> Path | None:
    """The champion's bundle where it was tuned by tonight's backend from tonight's base model, else None."""
    folder = champion_folder(night)
    if folder is None:
        return None
    described = bundle.description(folder)
    same = described["kind"] == night.config.recommender.backend and described["lineage"].get(BASE) == base_sha256
    return folder if same else None


def load_tiger(folder: Path | str, device: torch.device) -> Tiger:
    """The TIGER of a bundle."""
    found = bundle.load(Path(folder), device=device)
    assert isinstance(found, Tiger)
    return found
