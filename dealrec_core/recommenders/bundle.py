"""A recommender as one folder that loads by itself: base model, adapter, catalogue, settings. No pickle."""

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

BASE, ADAPTER, DESCRIPTION = "base", "adapter", "recommender.json"


def save(
    folder: Path,
    *,
    base: str,
    adapter: PeftModel,
    catalogue: Catalogue,
    popular: list[str],
    config: BIGRecConfig,
    lineage: Mapping[str, Any],
) -> None:
    """Writes the bundle. A base that is a local folder is copied in; one from the hub goes by name.

    popular: item ids, best first, for histories without a known item.
    """
    adapter.save_pretrained(folder / ADAPTER)
    local = Path(base).is_dir()
    if local:
        shutil.copytree(base, folder / BASE)
    described = {
        "kind": "bigrec",
        "base": None if local else base,
        "config": config.model_dump(),
        "popular": popular,
        "items": catalogue.item_ids,
        "titles": catalogue.titles,
        "categories": catalogue.categories,
        "lineage": dict(lineage),
    }
    (folder / DESCRIPTION).write_text(json.dumps(described, indent=1, sort_keys=True), encoding="utf-8")


def load(folder: Path, *, device: torch.device, name: str = "bigrec") -> BIGRec:
    """The recommender of a bundle, ready to answer.

    Raises:
        DataError: the folder is no bundle.
    """
    try:
        described = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"no recommender in {folder}: {error}; fine-tune again") from error
    model, tokenizer = language_model.load(described["base"] or str(folder / BASE), device=device)
    tuned = PeftModel.from_pretrained(model, folder / ADAPTER).to(device)
    return BIGRec(
        name=name,
        model=tuned.merge_and_unload().eval(),
        tokenizer=tokenizer,
        catalogue=Catalogue(described["items"], described["titles"], described["categories"]),
        popular=described["popular"],
        config=BIGRecConfig.model_validate(described["config"]),
    )
