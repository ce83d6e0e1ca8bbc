"""The model that is tuned: built on the spot once per lake (embedded language model, TIGER), or from Hugging Face."""

import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dealrec_core import schema
from dealrec_core.lake.nights import Night, Snapshot, fingerprint, nights
from dealrec_core.language import language_model
from dealrec_core.language.prompts import Example
from dealrec_core.recommenders import bundle, semantic_ids, tiger
from dealrec_core.recommenders.tiger import Tiger
from dealrec_core.samples import sequences
from dealrec_core.settings import Config
from tasks import storage
from tasks.catalogue import known_catalogue
from tasks.ingest import samples_of
from tasks.stage import device, stage


@dataclass(frozen=True)
class BaseModel:
    """Where the base model is, and a hash that changes with it."""

    location: str
    """Local folder, or the name of a Hugging Face model."""
    sha256: str

    def load(self, device: torch.device, *, four_bit: bool = False) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The language model and its tokenizer on that device."""
        return language_model.load(self.location, device=device, four_bit=four_bit)


@stage("base_model")
def provide_base_model(night: Night) -> Snapshot:
    """Folder `models/base/<hash of settings>`: the model, built by the first night that needs it and kept."""
    config = night.config
    is_tiger = config.recommender.backend == "tiger"
    if not is_tiger and not config.language_model.embedded:
        name = config.language_model.base_model
        return Snapshot(stage="base_model", path=None, sha256=_identity(name), facts={"base model": name})
    path = f"models/base/{fingerprint(_described(config))[:16]}"
    sha256 = storage.published(night.lake, path)
    if sha256 is None:
        sha256 = (_build_tiger if is_tiger else _build)(night, path)
    earlier = (each.find("base_model") for each in nights(night.lake) if each.name != night.name)
    built = all(found is None or found.path != path for found in earlier)  # also by a start that was killed
    name = "tiger" if is_tiger else "embedded"
    return Snapshot(stage="base_model", path=path, sha256=sha256, facts={"base model": name, "built tonight": built})


def _identity(name: str) -> str:
    """Hash of a model from outside: of a folder's files, so that other weights in it are another model; else of its name."""
    files = sorted(path for path in Path(name).rglob("*") if path.is_file()) if Path(name).is_dir() else []
    return fingerprint([name, *(f"{path.relative_to(name)} {_sha256(path)}" for path in files)])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _described(config: Config) -> list[str]:
    """All settings that a built model depends on."""
    if config.recommender.backend == "tiger":
        network = config.algorithms.tiger.model_dump(exclude={"tuning", "lora", "epochs", "beams"})
        return ["tiger", json.dumps(network), config.algorithms.semantic_ids.model_dump_json(), str(config.run.seed)]
    pretrained = config.algorithms.language_model.model_dump_json(exclude={"four_bit"})
    return [pretrained, config.recommender.prompt.model_dump_json(), str(config.run.seed)]


def base_model_of(night: Night) -> BaseModel:
    """This night's base model."""
    found = night.need("base_model")
    if found.path is None:
        return BaseModel(location=night.config.language_model.base_model, sha256=str(found.sha256))
    folder = storage.local_copy(night.lake, found.path, home=night.config.run.home)
    return BaseModel(location=str(folder), sha256=str(found.sha256))


def examples(night: Night, samples: pl.DataFrame) -> list[Example]:
    """The samples as text, in their order: the newest titles of the history, as the recommender will see them, and the target."""
    title_of = known_catalogue(night).title_of
    longest = night.config.recommender.titles
    return [
        Example(
            history=[title_of[item] for item in row[schema.HISTORY][-longest:]],
            target=title_of[row[schema.ITEM_ID]],
            sample_id=row[schema.SAMPLE_ID],
        )
        for row in samples.iter_rows(named=True)
    ]


def _old(train: pl.DataFrame) -> pl.DataFrame:
    """The older half: the embedded model may know the past, what is recent is left to fine-tuning."""
    return train.filter(pl.col(schema.TIMESTAMP) <= pl.col(schema.TIMESTAMP).median())


def _build(night: Night, path: str) -> str:
    known = known_catalogue(night)
    title_of = known.title_of
    train = _old(samples_of(night, "train"))
    latest = train.sort(schema.TIMESTAMP, schema.SAMPLE_ID).group_by(schema.USER_ID, maintain_order=True).last()
    histories = [
        [title_of[item] for item in [*row[schema.HISTORY], row[schema.ITEM_ID]]]
        for row in latest.sort(schema.USER_ID).iter_rows(named=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        language_model.build(
            Path(folder),
            known.titles,
            histories,
            config=night.config.algorithms.language_model,
            prompt=night.config.recommender.prompt,
            seed=night.config.run.seed,
        )
        return storage.publish(night.lake, Path(folder), path)


def _build_tiger(night: Night, path: str) -> str:
    """Semantic ids of the catalogue, and a network trained on the older half, stopped by that half's newest tenth."""
    config = night.config
    ids = semantic_ids.fit(known_catalogue(night), config=config.algorithms.semantic_ids, seed=config.run.seed)
    old = _old(samples_of(night, "train")).sort(schema.TIMESTAMP, schema.SAMPLE_ID)
    held = max(1, len(old) // 10)
    settings = {"tuning": "full", "epochs": config.tiger.pretraining_epochs}
    with tempfile.TemporaryDirectory() as folder:
        trained = tiger.train(
            sequences.encode(old[:-held], ids.item_ids),
            sequences.encode(old[-held:], ids.item_ids),
            ids,
            config=config.algorithms.tiger.model_copy(update=settings),
            seed=config.run.seed,
            device=device(night),
            checkpoint_folder=storage.checkpoint_folder(night, "base_model"),
        )
        pretrained = Tiger("tiger", trained.model, ids, [], config.algorithms.tiger)
        bundle.save_tiger(Path(folder), pretrained, lineage={"pretrained": True})
        sha256 = storage.publish(night.lake, Path(folder), path)
    storage.drop_checkpoints(night, "base_model")
    return sha256
