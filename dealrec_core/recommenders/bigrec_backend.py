"""BIGRec as a backend: a language model reads titles, and LoRA adapts it to the coreset."""

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
from dealrec_core.language import bases, batch_tokens, effort, fine_tuning, language_model, lora
from dealrec_core.language.answer_loss import Losses, example_losses, length_batches
from dealrec_core.language.language_model import padded, weighted_mean
from dealrec_core.language.progress import Progress, silent
from dealrec_core.language.prompts import Example, Prompter
from dealrec_core.recommenders import bundle, tuned
from dealrec_core.recommenders.bigrec import BIGRec, title_ndcg
from dealrec_core.recommenders.tuned import ItemStatistics, Tuned
from dealrec_core.samples.items import Catalogue
from dealrec_core.settings.tree import Algorithms


@dataclass(frozen=True)
class BIGRecBackend:
    """BIGRec with its settings (`backend`)."""

    settings: Algorithms
    device: torch.device
    seed: int
    name: str = "bigrec"

    @property
    def base_name(self) -> str:
        """'embedded', or the name of the language model as `bases` knows it."""
        return self.settings.language_model.base_model

    def base_key(self) -> list[str] | None:
        """The embedded model's settings, prompt and seed; None for a language model from outside."""
        if not self.settings.language_model.embedded:
            return None
        pretrained = self.settings.language_model.model_dump_json(exclude={"four_bit"})
        return [pretrained, self.settings.bigrec.prompt.model_dump_json(), str(self.seed)]

    def outside_key(self) -> list[str]:
        """The hash over the model's files: other weights under a known name are another model."""
        return [bases.locate(self.base_name).sha256]

    def prepare(
        self,
        folder: Path,
        catalogue: Catalogue,
        past: pl.DataFrame,
        checkpoints: Path | None = None,
        progress: Progress = silent,
    ) -> None:
        """Pretrains the embedded model on the longest history of each user: the latest sample with its target."""
        latest = past.sort(schema.TIMESTAMP, schema.SAMPLE_ID).group_by(schema.USER_ID, maintain_order=True).last()
        histories = [
            [catalogue.title_of[item] for item in [*row[schema.HISTORY], row[schema.ITEM_ID]]]
            for row in latest.sort(schema.USER_ID).iter_rows(named=True)
        ]
        config, prompt = self.settings.language_model, self.settings.bigrec.prompt
        language_model.build(
            folder,
            catalogue.titles,
            histories,
            config=config,
            prompt=prompt,
            seed=self.seed,
            progress=progress,
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


@dataclass(frozen=True)
class OpenedLanguageModel:
    """A language model on a catalogue (`backend`)."""

    settings: Algorithms
    device: torch.device
    seed: int
    base: str
    catalogue: Catalogue
    champion: Path | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}  # less the model

    def adapted(self, champion: Path | None) -> AbstractContextManager[PeftModel]:
        """The base with a fresh adapter or the champion's, for a while."""
        adapter = self.settings.fine_tune.lora if champion is None else champion / bundle.ADAPTER
        return lora.borrowed(self._model, adapter, seed=self.seed, device=self.device)

    def losses(self, model: Any, samples: pl.DataFrame, *, batch_tokens: int, prompts_too: bool = False) -> Losses:
        """Yields (rows, answer losses (B,)) by a model; prompts_too: the tokens of prompts count as well."""
        texts = self.examples(samples)
        return example_losses(model, self._prompter, texts, batch_tokens=batch_tokens, prompts_too=prompts_too)

    @torch.no_grad()
    def hidden(self, samples: pl.DataFrame) -> np.ndarray:
        """The base's pooled states of prompts and answers (`weighted_mean`), float32 (N, D)."""
        texts = [self._prompter.row(example) for example in self.examples(samples)]
        bare: Any = self._model.eval()
        pooled = np.empty((0, 0), dtype=np.float32)
        most = batch_tokens.resolve(self.settings.effort.batch_tokens, bare, most=effort.MOST_TOKENS)
        for rows in length_batches(self.tokens(samples), most):
            ids = padded([[*texts[row][0], *texts[row][1]] for row in rows], value=-1).to(self.device)
            states = bare.base_model(input_ids=ids.clamp(min=0), use_cache=False).last_hidden_state  # (B, L, D)
            part = weighted_mean(states, (ids >= 0)).cpu().numpy()
            pooled = pooled if len(pooled) else np.empty((len(texts), part.shape[1]), dtype=np.float32)
            pooled[rows] = part
        return pooled

    def tokens(self, samples: pl.DataFrame) -> np.ndarray:
        """Tokens of each prompt and answer, int64 (N,); loads no model."""
        return np.array([self._prompter.length(example) for example in self.examples(samples)], dtype=np.int64)

    def tune(
        self,
        chosen: pl.DataFrame,
        held: pl.DataFrame,
        statistics: ItemStatistics,
        *,
        stop: int | None = None,
        checkpoint_folder: Path | None = None,
        progress: Progress = silent,
    ) -> Tuned:
        """Tunes an adapter: a fresh one, or the champion's (`fine_tune.start`); the best epoch on the held samples counts, or `stop`."""
        config = self.settings.fine_tune
        start = self.champion if config.start == "champion" else None
        model = self._model
        del self.__dict__["_model"]  # tuning changes it
        parameters = model.num_parameters()
        quality = None
        if config.best_epoch_by == "ndcg" and stop is None:
            title_of = self.catalogue.title_of
            titles = [title_of[item] for item in self.catalogue.item_ids if item in statistics.popularity]
            quality = title_ndcg(self._tokenizer, self.examples(held), titles, config=self.settings.bigrec)
        trained = fine_tuning.fine_tune(
            model,
            self._prompter,
            self.examples(chosen),
            self.examples(held),
            config=config,
            seed=self.seed,
            quality=quality,
            adapter=None if start is None else start / bundle.ADAPTER,
            stop=stop,
            checkpoint_folder=checkpoint_folder,
            progress=progress,
        )
        given = self._tokenizer, self.catalogue, statistics.popular, self.settings.bigrec, statistics.popularity
        recommender = BIGRec("candidate", trained.model, *given)
        result = tuned.tuned(recommender, trained, start, parameters=parameters, measure="ndcg" if quality else "loss")
        inside = self.settings.language_model.embedded
        return replace(result, base=Path(self.base) if inside else bases.locate(self.base))

    def examples(self, samples: pl.DataFrame) -> list[Example]:
        """The samples as text, in their order: the newest titles of the history, as BIGRec reads them, and the target."""
        title_of, longest = self.catalogue.title_of, self.settings.bigrec.history_length
        rows = samples.select(schema.HISTORY, schema.ITEM_ID, schema.SAMPLE_ID).iter_rows()
        return [
            Example([title_of[item] for item in history[-longest:]], title_of[target], sample_id)
            for history, target, sample_id in rows
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
