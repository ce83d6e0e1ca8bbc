"""A recommender as one folder that loads by itself: base model, adapter, catalogue, settings. No pickle."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from dealrec_core import language_model
from dealrec_core.errors import DataError
from dealrec_core.items import Catalogue
from dealrec_core.recommenders.bigrec import BIGRec, BIGRecConfig

BASE, ADAPTER, DESCRIPTION, HASHES = "base", "adapter", "recommender.json", "sha256.json"


def save(
    folder: Path,
    *,
    base: str,
    adapter: PeftModel,
    catalogue: Catalogue,
    popular: list[str],
    config: BIGRecConfig,
    lineage: Mapping[str, Any],
    popularity: Mapping[str, float] | None = None,
) -> None:
    """Writes the bundle. A base that is a local folder is copied in; one from the hub goes by name.

    popular: item ids, best first, for histories without a known item. popularity: interactions of each item, where
    `config.gamma` wants them.
    """
    local = Path(base).is_dir()
    if local:
        shutil.copytree(base, folder / BASE)
    _save_adapter(folder / ADAPTER, adapter, base=None if local else base)
    described = {
        "kind": "bigrec",
        "base": None if local else base,
        "config": config.model_dump(),
        "popular": popular,
        "popularity": dict(popularity or {}),
        "items": catalogue.item_ids,
        "titles": catalogue.titles,
        "categories": catalogue.categories,
        "lineage": dict(lineage),
    }
    (folder / DESCRIPTION).write_text(json.dumps(described, indent=1, sort_keys=True), encoding="utf-8")
    (folder / HASHES).write_text(json.dumps(_hashes(folder), indent=1, sort_keys=True), encoding="utf-8")


def load(folder: Path, *, device: torch.device, name: str = "bigrec") -> BIGRec:
    """The recommender of a bundle, ready to answer.

    Raises:
        DataError: the folder is no bundle, or a file of it is missing or was changed.
    """
    try:
        _check(folder, json.loads((folder / HASHES).read_text(encoding="utf-8")))
        described = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"no whole recommender in {folder}: {error}; fine-tune again") from error
    model, tokenizer = language_model.load(described["base"] or str(folder / BASE), device=device)
    tuned = PeftModel.from_pretrained(model, folder / ADAPTER).to(device)
    config = BIGRecConfig.model_validate(described["config"])
    return BIGRec(
        name=name,
        model=(tuned if config.decoding == "ground" else tuned.merge_and_unload()).eval(),
        tokenizer=tokenizer,
        catalogue=Catalogue(described["items"], described["titles"], described["categories"]),
        popular=described["popular"],
        config=config,
        popularity=described["popularity"],
    )


def _save_adapter(folder: Path, adapter: PeftModel, *, base: str | None) -> None:
    """peft's own form, less the model card and the path of the base on this machine."""
    adapter.save_pretrained(str(folder), save_embedding_layers=False)  # "auto" would ask the hub about the base
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    described = json.loads(path.read_text(encoding="utf-8")) | {"base_model_name_or_path": base}
    path.write_text(json.dumps(described, indent=1, sort_keys=True), encoding="utf-8")


def _hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file below the folder but the list of hashes itself."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != HASHES)
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in paths}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(folder: Path, wanted: Mapping[str, str]) -> None:
    for name, expected in wanted.items():
        found = _sha256(folder / name)
        if found != expected:
            raise DataError(f"{folder / name} has sha256 {found[:12]}, wanted {expected[:12]}; take the bundle again")
