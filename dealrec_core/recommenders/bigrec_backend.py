"""BIGRec as a backend: a language model reads titles, and LoRA adapts it to the coreset."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dealrec_core import schema
from dealrec_core.language import effort, fine_tuning, language_model, lora, whole
from dealrec_core.language.answer_loss import Losses, example_losses
from dealrec_core.language.progress import Progress, silent
from dealrec_core.language.prompts import Example, Prompter
from dealrec_core.recommenders import baselines, bundle, grounding, hidden
from dealrec_core.recommenders.bigrec import BIGRec, title_recall
from dealrec_core.recommenders.protocol import BackendSettings, Gradients, ItemStatistics, Tuned, tuning_facts
from dealrec_core.recommenders.tiger import Tiger
from dealrec_core.samples import sequences
from dealrec_core.samples.items import Catalogue
from dealrec_core.settings.recommenders import BIGRecConfig

GAMMAS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""The exponents among which `gamma = "validation"` chooses."""
LIKELIHOOD_TOKENS = 8192
"""Most tokens of a batch where likelihoods are computed, without gradients."""


@dataclass(frozen=True)
class BIGRecBackend:
    """BIGRec with its settings (`protocol.Backend`)."""

    settings: BackendSettings
    device: torch.device
    seed: int
    name: str = "bigrec"

    @property
    def base_name(self) -> str:
        """'embedded', or the name or folder of the language model."""
        return self.settings.language_model.base_model

    @property
    def base_location(self) -> str:
        """The name or folder of a language model from outside."""
        return self.settings.language_model.base_model

    def base_key(self) -> list[str] | None:
        """The embedded model's settings, prompt and seed; None for a language model from outside."""
        if not self.settings.language_model.embedded:
            return None
        pretrained = self.settings.language_model.model_dump_json(exclude={"four_bit"})
        return [pretrained, self.settings.bigrec.prompt.model_dump_json(), str(self.seed)]

    def outside_key(self) -> list[str]:
        """The model's name; for a folder also the hashes of its files, so that other weights in it are another model."""
        folder = Path(self.base_location)
        paths = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
        return [self.base_location, *(f"{path.relative_to(folder)} {whole.sha256(path)}" for path in paths)]

    def prepare(
        self, folder: Path, catalogue: Catalogue, past: pl.DataFrame, checkpoint_folder: Path | None = None
    ) -> None:
        """Pretrains the embedded model on the longest history of each user: the latest sample with its target."""
        latest = past.sort(schema.TIMESTAMP, schema.SAMPLE_ID).group_by(schema.USER_ID, maintain_order=True).last()
        histories = [
            [catalogue.title_of[item] for item in [*row[schema.HISTORY], row[schema.ITEM_ID]]]
            for row in latest.sort(schema.USER_ID).iter_rows(named=True)
        ]
        language_model.build(
            folder,
            catalogue.titles,
            histories,
            config=self.settings.language_model,
            prompt=self.settings.bigrec.prompt,
            seed=self.seed,
        )

    def effort_key(self) -> list[str]:
        """The seed, and the settings of effort, adapter, prompt and history."""
        effort_settings = self.settings.effort.model_dump_json(exclude={"refresh", "shard_samples", "batch_tokens"})
        sections = [self.settings.fine_tune.lora, self.settings.bigrec.prompt]
        described = [section.model_dump_json() for section in sections]
        return [str(self.seed), effort_settings, *described, str(self.settings.bigrec.history_length)]

    def open(self, base: Path | str, catalogue: Catalogue, champion: Path | None = None) -> "OpenedLanguageModel":
        """The language model on a catalogue."""
        return OpenedLanguageModel(self.settings, self.device, self.seed, str(base), catalogue, champion)

    def save(self, folder: Path, tuned: Tuned, lineage: Mapping[str, str | int | float | None]) -> None:
        """Writes the bundle: base model, adapter, catalogue and settings."""
        bundle.save(folder, tuned.recommender, base=tuned.base, lineage=lineage)


@dataclass(frozen=True)
class OpenedLanguageModel:
    """A language model on a catalogue (`protocol.OpenedBase`)."""

    settings: BackendSettings
    device: torch.device
    seed: int
    base: str
    catalogue: Catalogue
    champion: Path | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}  # less the model

    def effort(self, samples: pl.DataFrame) -> np.ndarray:
        """The norm of each answer loss's gradient, by a fresh adapter on the base or by the champion's adapter."""
        config = self.settings.effort
        folder = self.champion if config.model == "champion" else None
        examples = self.examples(samples)
        with self._adapted(folder) as tuned:
            losses = self._losses(tuned, examples)
            return effort.norms(tuned, losses, samples[schema.SAMPLE_ID].to_list(), parameters=config.parameters)

    def gradients(self, samples: pl.DataFrame) -> Gradients:
        """Yields the answer losses' gradients by a fresh adapter on the base."""
        with self._adapted(None) as tuned:
            losses = self._losses(tuned, self.examples(samples))
            yield from effort.gradients(tuned, losses, parameters=self.settings.effort.parameters)

    def hidden(self, samples: pl.DataFrame) -> np.ndarray:
        """The base's pooled states of prompts and answers, float32 (N, D)."""
        most = self.settings.effort.batch_tokens
        return hidden.of_examples(self._model, self._prompter, self.examples(samples), batch_tokens=most)

    def tokens(self, samples: pl.DataFrame) -> np.ndarray:
        """Tokens of each prompt and answer, int64 (N,)."""
        return np.array([self._prompter.length(example) for example in self.examples(samples)], dtype=np.int64)

    def tune(
        self,
        chosen: pl.DataFrame,
        held: pl.DataFrame,
        statistics: ItemStatistics,
        *,
        seed: int | None = None,
        checkpoint_folder: Path | None = None,
        progress: Progress = silent,
    ) -> Tuned:
        """Tunes an adapter: a fresh one, or the champion's. The base is loaded anew for the next question."""
        config = self.settings.fine_tune
        start = self.champion if config.start == "champion" else None
        model = self._taken()
        parameters = model.num_parameters()
        quality = None
        if config.best_epoch_by == "recall":
            titles = [
                self.catalogue.title_of[item] for item in self.catalogue.item_ids if item in statistics.popularity
            ]
            quality = title_recall(self._tokenizer, self.examples(held), titles, config=self.settings.bigrec)
        trained = fine_tuning.fine_tune(
            model,
            self._prompter,
            self.examples(chosen),
            self.examples(held),
            config=config,
            seed=self.seed if seed is None else seed,
            quality=quality,
            adapter=None if start is None else start / bundle.ADAPTER,
            checkpoint_folder=checkpoint_folder,
            progress=progress,
        )
        recommender = _with_gamma(self._recommender(trained.model, statistics), held)
        facts = {"started from": "base" if start is None else "champion", **tuning_facts(trained, config.best_epoch_by)}
        if recommender.config.decoding == "ground":
            facts["gamma"] = float(recommender.config.gamma)
        return Tuned(recommender, trained.tokens, 6.0 * parameters * trained.tokens, facts, self.base)

    @torch.no_grad()
    def log_likelihood(self, recommender: BIGRec | Tiger, samples: pl.DataFrame) -> np.ndarray:
        """The mean log-probability of an answer token, float64 (N,)."""
        examples, model = self.examples(samples), recommender.model.eval()
        likelihoods = np.empty(len(examples))
        for rows, batch in example_losses(model, self._prompter, examples, batch_tokens=LIKELIHOOD_TOKENS):
            likelihoods[rows] = -batch.cpu().numpy()
        return likelihoods

    def examples(self, samples: pl.DataFrame) -> list[Example]:
        """The samples as text, in their order: the newest titles of the history, as BIGRec reads them, and the target."""
        title_of, longest = self.catalogue.title_of, self.settings.bigrec.history_length
        return [
            Example(
                history=[title_of[item] for item in row[schema.HISTORY][-longest:]],
                target=title_of[row[schema.ITEM_ID]],
                sample_id=row[schema.SAMPLE_ID],
            )
            for row in samples.iter_rows(named=True)
        ]

    @cached_property
    def _model(self) -> PreTrainedModel:
        four_bit = self.settings.language_model.four_bit
        return language_model.load(self.base, device=self.device, four_bit=four_bit)[0]

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        return language_model.load_tokenizer(self.base)

    @cached_property
    def _prompter(self) -> Prompter:
        return Prompter(self._tokenizer, self.settings.bigrec.prompt)

    def _taken(self) -> PreTrainedModel:
        """The model for good, since tuning changes it; the next question loads another."""
        model = self._model
        del self.__dict__["_model"]
        return model

    def _adapted(self, champion: Path | None) -> AbstractContextManager[PeftModel]:
        adapter = self.settings.fine_tune.lora if champion is None else champion / bundle.ADAPTER
        return lora.borrowed(self._model, adapter, seed=self.seed, device=self.device)

    def _losses(self, model: PeftModel, examples: list[Example]) -> Losses:
        config = self.settings.effort
        return example_losses(
            model, self._prompter, examples, batch_tokens=config.batch_tokens, prompts_too=config.tokens == "all"
        )

    def _recommender(self, model: PeftModel, statistics: ItemStatistics) -> BIGRec:
        config, neighbours = self.settings.bigrec, None
        if config.decoding == "ground" and config.weight == "neighbours" and statistics.interactions is not None:
            neighbours = baselines.item_knn(statistics.interactions())
        return BIGRec(
            name="candidate",
            model=model,
            tokenizer=self._tokenizer,
            catalogue=self.catalogue,
            popular=statistics.popular,
            config=config,
            popularity=statistics.popularity,
            neighbours=neighbours,
        )


def _with_gamma(recommender: BIGRec, held: pl.DataFrame) -> BIGRec:
    """The recommender with a number for gamma: where its settings ask for it, that with the best recall on held samples."""
    config = recommender.config
    if config.gamma != "validation":
        return recommender
    gamma = _best_gamma(recommender, held) if config.decoding == "ground" else 0.0
    changed: BIGRecConfig = config.model_copy(update={"gamma": gamma})
    return replace(recommender, config=changed)


def _best_gamma(recommender: BIGRec, held: pl.DataFrame) -> float:
    histories = held[schema.HISTORY].to_list()
    distances = recommender.distances(histories)
    targets = sequences.encode(held, recommender.catalogue.item_ids).targets
    return grounding.best_gamma(distances, recommender.weights(histories), targets, gammas=GAMMAS, k=10)
