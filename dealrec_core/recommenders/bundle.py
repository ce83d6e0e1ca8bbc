"""A recommender as one folder that loads by itself: base model, adapter, catalogue, settings. No pickle."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import torch as safetensors
from scipy import sparse

from dealrec_core.errors import DataError, OtherFormat
from dealrec_core.language import language_model
from dealrec_core.recommenders import tiger
from dealrec_core.recommenders.baselines import ItemKNN
from dealrec_core.recommenders.bigrec import BIGRec
from dealrec_core.recommenders.semantic_ids import Content, SemanticIds
from dealrec_core.recommenders.sentence_content import SentenceContent
from dealrec_core.recommenders.tiger import Tiger
from dealrec_core.samples.items import Catalogue
from dealrec_core.settings.recommenders import BIGRecConfig, TigerConfig

BASE, ADAPTER, DESCRIPTION, HASHES = "base", "adapter", "recommender.json", "sha256.json"
WEIGHTS, NEIGHBOURS = "tiger.safetensors", "neighbours.safetensors"
MATRIX = ("data", "indices", "indptr")
FORMAT = 2
"""Counts up with every change after which this program cannot read what an earlier one wrote, or the other way round."""


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
    neighbours: ItemKNN | None = None,
) -> None:
    """Writes the bundle. A base that is a local folder is copied in; one from the hub goes by name.

    popular: item ids, best first, for histories without a known item. popularity: interactions of each item, and
    neighbours, where `config.gamma` wants them.
    """
    local = Path(base).is_dir()
    if local:
        shutil.copytree(base, folder / BASE)
    _save_adapter(folder / ADAPTER, adapter, base=None if local else base)
    if neighbours is not None:
        parts = {name: torch.from_numpy(getattr(neighbours.similarity, name)) for name in MATRIX}
        (folder / NEIGHBOURS).write_bytes(safetensors.save(parts))
    described = {
        "kind": "bigrec",
        "base": None if local else base,
        "config": config.model_dump(),
        "popular": popular,
        "popularity": dict(popularity or {}),
        "neighbours": None if neighbours is None else neighbours.item_ids,
        "items": catalogue.item_ids,
        "titles": catalogue.titles,
        "categories": catalogue.categories,
        "lineage": dict(lineage),
    }
    _finish(folder, described)


def save_tiger(folder: Path, recommender: Tiger, *, lineage: Mapping[str, Any]) -> None:
    """Writes a TIGER with its semantic ids and all that is needed to code new items."""
    ids = recommender.ids
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"model/{name}": weight.detach().cpu() for name, weight in recommender.model.named_parameters()}
    tensors |= {f"centres/{level}": torch.from_numpy(centres) for level, centres in enumerate(ids.centres)}
    words = None
    if isinstance(ids.content, Content):
        words = ids.content.words
        tensors["directions"] = torch.from_numpy(ids.content.directions)
        tensors["rarity"] = torch.from_numpy(ids.content.rarity)
    for number, (weight, bias) in enumerate(ids.encoder):
        tensors |= {
            f"encoder/{number}/weight": torch.from_numpy(weight),
            f"encoder/{number}/bias": torch.from_numpy(bias),
        }
    tensors |= {"codes": torch.from_numpy(ids.codes)}
    # safetensors keeps memory as it lies: a transposed view would be refused
    contents = safetensors.save({name: tensor.contiguous() for name, tensor in tensors.items()})
    (folder / WEIGHTS).write_bytes(contents)
    described = {
        "kind": "tiger",
        "config": recommender.config.model_dump(),
        "popular": recommender.popular,
        "items": ids.item_ids,
        "words": words,
        "embedding": ids.content.location if isinstance(ids.content, SentenceContent) else None,
        "size": ids.size,
        "levels": len(ids.centres),
        "encoder_layers": len(ids.encoder),
        "lineage": dict(lineage),
    }
    _finish(folder, described)


def load(folder: Path, *, device: torch.device, name: str | None = None) -> BIGRec | Tiger:
    """The recommender of a bundle, ready to answer; by default it is called what it is.

    Raises:
        OtherFormat: it was written by an earlier or later version of this program.
        DataError: the folder is no bundle, or a file of it is missing or was changed.
    """
    described = description(folder)
    read = _tiger if described["kind"] == "tiger" else _bigrec
    return read(folder, described, device=device, name=name or described["kind"])


def description(folder: Path) -> dict[str, Any]:
    """What the bundle says about itself (kind, config, lineage, ...), once its files are checked.

    Raises:
        OtherFormat: it was written by an earlier or later version of this program.
        DataError: the folder is no bundle, or a file of it is missing or was changed.
    """
    try:
        described: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if described.get("format") != FORMAT:
            raise OtherFormat(
                f"{folder} has bundle format {described.get('format', 'none')}, this program reads {FORMAT}; fine-tune again"
            )
        _check(folder, json.loads((folder / HASHES).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise DataError(f"no whole recommender in {folder}: {error}; fine-tune again") from error
    return described


def _bigrec(folder: Path, described: dict[str, Any], *, device: torch.device, name: str) -> BIGRec:
    model, tokenizer = language_model.load(described["base"] or str(folder / BASE), device=device)
    tuned = PeftModel.from_pretrained(model, folder / ADAPTER).to(device)
    config = BIGRecConfig.model_validate(described["config"])
    neighbours = None
    if described["neighbours"] is not None:
        parts = safetensors.load((folder / NEIGHBOURS).read_bytes())
        items = described["neighbours"]
        matrix = sparse.csr_matrix(tuple(parts[name].numpy() for name in MATRIX), shape=(len(items), len(items)))
        neighbours = ItemKNN("item knn", items, matrix)
    return BIGRec(
        name=name,
        model=(tuned if config.decoding == "ground" else tuned.merge_and_unload()).eval(),
        tokenizer=tokenizer,
        catalogue=Catalogue(described["items"], described["titles"], described["categories"]),
        popular=described["popular"],
        config=config,
        popularity=described["popularity"],
        neighbours=neighbours,
    )


def _tiger(folder: Path, described: dict[str, Any], *, device: torch.device, name: str) -> Tiger:
    tensors = safetensors.load((folder / WEIGHTS).read_bytes())
    content: Content | SentenceContent
    if described["embedding"] is None:
        content = Content(described["words"], tensors["rarity"].numpy(), tensors["directions"].numpy())
    else:
        content = SentenceContent(described["embedding"])
    ids = SemanticIds(
        content=content,
        centres=[tensors[f"centres/{level}"].numpy() for level in range(described["levels"])],
        item_ids=described["items"],
        codes=tensors["codes"].numpy(),
        encoder=[
            (tensors[f"encoder/{number}/weight"].numpy(), tensors[f"encoder/{number}/bias"].numpy())
            for number in range(described["encoder_layers"])
        ],
        size=described["size"],
    )
    config = TigerConfig.model_validate(described["config"])
    model: Any = tiger.network(config, ids)
    with torch.no_grad():
        for weight_name, weight in model.named_parameters():
            weight.copy_(tensors[f"model/{weight_name}"])
    return Tiger(name, model.to(device).eval(), ids, described["popular"], config)


def _finish(folder: Path, described: dict[str, Any]) -> None:
    """The description, and last the hashes of all files: a torn folder does not load."""
    described = {"format": FORMAT, **described}
    (folder / DESCRIPTION).write_text(json.dumps(described, indent=1, sort_keys=True), encoding="utf-8")
    (folder / HASHES).write_text(json.dumps(_hashes(folder), indent=1, sort_keys=True), encoding="utf-8")


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
