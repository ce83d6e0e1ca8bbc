"""A recommender as one folder that loads by itself: base model, adapter, catalogue, settings. No pickle."""

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
from dealrec_core.language import bases, language_model, lora, whole
from dealrec_core.language.bases import Base
from dealrec_core.recommenders import tiger
from dealrec_core.recommenders.baselines import ItemKNN
from dealrec_core.recommenders.bigrec import BIGRec
from dealrec_core.recommenders.semantic_ids import Content, SemanticIds
from dealrec_core.recommenders.sentence_content import SentenceContent
from dealrec_core.recommenders.tiger import Tiger
from dealrec_core.samples import calibration
from dealrec_core.samples.items import Catalogue
from dealrec_core.settings.recommenders import BIGRecConfig, TigerConfig

BASE, ADAPTER, DESCRIPTION, HASHES = "base", "adapter", "recommender.json", "sha256.json"
WEIGHTS, NEIGHBOURS = "tiger.safetensors", "neighbours.safetensors"
MATRIX = ("data", "indices", "indptr")
FORMAT = 4
"""Counts up with every change after which an earlier program cannot read what this one writes, or the other way round."""
READ = {2, 3, FORMAT}
"""Formats that this program reads. 2 is from before calibration and loads without one; up to 3, a base from outside is inside
the bundle, or named without its hash."""
TUNED_FROM = "base"
"""Key of a bundle's lineage: hash of the base model it was tuned from."""


def save(
    folder: Path, recommender: BIGRec | Tiger, *, lineage: Mapping[str, Any], base: Path | Base | None = None
) -> None:
    """Writes the bundle of a recommender with an adapter (BIGRec) or with all of its weights (TIGER).

    base: BIGRec's base model; the folder of an embedded one is copied in, to one from outside the bundle refers by its
    hash. lineage: kept as it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(recommender, Tiger):
        described = _save_tiger(folder, recommender)
    elif base is not None:
        described = _save_bigrec(folder, recommender, base)
    else:
        raise DataError("a bundle of BIGRec needs the base model that its adapter was tuned on; name it")
    calibrated = recommender.calibration
    described["calibration"] = None if calibrated is None else calibrated.described()
    described |= {"format": FORMAT, "lineage": dict(lineage)}
    (folder / DESCRIPTION).write_text(json.dumps(described, indent=1, sort_keys=True), encoding="utf-8")
    whole.seal(folder, HASHES)  # last: a torn folder does not load


def _save_bigrec(folder: Path, recommender: BIGRec, base: Path | Base) -> dict[str, Any]:
    grounds = recommender.config.decoding == "ground"
    reference = None
    if isinstance(base, Path):
        shutil.copytree(base, folder / BASE)
    else:
        base.remember()
        reference = base.reference
    _save_adapter(folder / ADAPTER, recommender.model, base=None if reference is None else reference["name"])
    neighbours, catalogue = recommender.neighbours, recommender.catalogue
    if neighbours is not None:
        parts = {name: torch.from_numpy(getattr(neighbours.similarity, name)) for name in MATRIX}
        (folder / NEIGHBOURS).write_bytes(safetensors.save(parts))
    return {
        "kind": "bigrec",
        "base": reference,
        "config": recommender.config.model_dump(),
        "popular": recommender.popular,
        "popularity": dict(recommender.popularity) if grounds else {},
        "neighbours": None if neighbours is None else neighbours.item_ids,
        "items": catalogue.item_ids,
        "titles": catalogue.titles,
        "categories": catalogue.categories,
    }


def _save_tiger(folder: Path, recommender: Tiger) -> dict[str, Any]:
    """The network with its semantic ids and all that is needed to code new items."""
    ids = recommender.ids
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
    return {
        "kind": "tiger",
        "config": recommender.config.model_dump(),
        "popular": recommender.popular,
        "items": ids.item_ids,
        "words": words,
        "embedding": ids.content.location if isinstance(ids.content, SentenceContent) else None,
        "size": ids.size,
        "levels": len(ids.centres),
        "encoder_layers": len(ids.encoder),
    }


def load(folder: Path, *, device: torch.device, name: str | None = None) -> BIGRec | Tiger:
    """The recommender of a bundle, ready to answer; its name is by default the kind. Raises the errors of `description`."""
    described = description(folder)
    read = _tiger if described["kind"] == "tiger" else _bigrec
    return read(folder, described, device=device, name=name or described["kind"])


def description(folder: Path) -> dict[str, Any]:
    """The description in a bundle (kind, config, lineage, ...), once its files are checked.

    Raises:
        OtherFormat: it was written by an earlier or later version of this program.
        DataError: the folder is no bundle, or a file of it is missing or was changed.
    """
    try:
        described: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if described.get("format") not in READ:
            number = described.get("format", "none")
            raise OtherFormat(f"{folder} has bundle format {number}, this program reads {FORMAT}; fine-tune again")
        changes = whole.changes(folder, HASHES)
    except (OSError, ValueError) as error:
        raise DataError(f"no whole recommender in {folder}: {error}; fine-tune again") from error
    for name, (now, sealed) in changes.items():
        raise DataError(f"{folder / name} has sha256 {now[:12]}, but {sealed[:12]} is expected; copy the bundle again")
    return described


def _bigrec(folder: Path, described: dict[str, Any], *, device: torch.device, name: str) -> BIGRec:
    model, tokenizer = language_model.load(_base(folder, described), device=device)
    tuned: Any = lora.with_adapter(model, folder / ADAPTER, learns=False).to(device)
    config = BIGRecConfig.model_validate(described["config"])
    neighbours = None
    if described["neighbours"] is not None:
        parts = safetensors.load((folder / NEIGHBOURS).read_bytes())
        items = described["neighbours"]
        matrix = sparse.csr_matrix(tuple(parts[name].numpy() for name in MATRIX), shape=(len(items), len(items)))
        neighbours = ItemKNN("item knn", items, matrix)
    answering = (tuned if config.decoding == "ground" else tuned.merge_and_unload()).eval()
    catalogue = Catalogue(described["items"], described["titles"], described["categories"])
    popular, popularity = described["popular"], described["popularity"]
    calibrated = calibration.read(described.get("calibration"))
    return BIGRec(name, answering, tokenizer, catalogue, popular, config, popularity, neighbours, calibrated)


def _base(folder: Path, described: dict[str, Any]) -> str:
    """Where the base model of a bundle is, which must be the one that its lineage names."""
    reference, wanted = described["base"], described["lineage"].get(TUNED_FROM)
    if described["format"] < FORMAT:
        return reference or str(folder / BASE)
    sha256 = bases.content_sha256(folder / BASE) if reference is None else reference["sha256"]
    if wanted not in (None, sha256):
        raise DataError(f"{folder} was tuned from base {wanted[:12]} and has base {sha256[:12]}; copy the bundle again")
    return str(folder / BASE if reference is None else bases.referred(reference))


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
    calibrated = calibration.read(described.get("calibration"))
    return Tiger(name, model.to(device).eval(), ids, described["popular"], config, calibration=calibrated)


def _save_adapter(folder: Path, adapter: PeftModel, *, base: str | None) -> None:
    """Writes peft's own form, less the model card and the path of the base on this machine."""
    adapter.save_pretrained(str(folder), save_embedding_layers=False)  # "auto" would ask the hub about the base
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    described = json.loads(path.read_text(encoding="utf-8")) | {"base_model_name_or_path": base}
    path.write_text(json.dumps(described, indent=1, sort_keys=True), encoding="utf-8")
