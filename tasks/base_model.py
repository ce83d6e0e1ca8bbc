"""The language model that is tuned: built on the spot once per lake, or a Hugging Face model by name."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dealrec_core import language_model, schema
from dealrec_core.night import Night, Snapshot, fingerprint
from dealrec_core.recommenders.prompts import Example
from tasks import storage
from tasks.catalogue import known_catalogue
from tasks.ingest import samples_of
from tasks.stage import stage


@dataclass(frozen=True)
class BaseModel:
    """Where the base model is, and a hash that changes with it."""

    location: str
    """Local folder, or the name of a Hugging Face model."""
    sha256: str

    def load(self, device: torch.device) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The model and its tokenizer on that device."""
        return language_model.load(self.location, device=device)


@stage("base_model")
def provide_base_model(night: Night) -> Snapshot:
    """Folder `models/base/<hash of settings>`: the embedded model, built by the first night that needs it and kept."""
    config = night.config.language_model
    if not config.embedded:
        return Snapshot(
            stage="base_model",
            path=None,
            sha256=fingerprint([config.base_model]),
            facts={"base model": config.base_model},
        )
    described = [
        config.model_dump_json(),
        night.config.recommender.prompt.model_dump_json(),
        str(night.config.run.seed),
    ]
    path = f"models/base/{fingerprint(described)[:16]}"
    sha256 = storage.published(night.lake, path)
    built = sha256 is None
    if sha256 is None:
        sha256 = _build(night, path)
    return Snapshot(
        stage="base_model", path=path, sha256=sha256, facts={"base model": "embedded", "built tonight": built}
    )


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
    longest = night.config.recommender.history_length
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
            config=night.config.language_model,
            prompt=night.config.recommender.prompt,
            seed=night.config.run.seed,
        )
        return storage.publish(night.lake, Path(folder), path)
