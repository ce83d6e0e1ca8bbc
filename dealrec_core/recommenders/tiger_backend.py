"""TIGER as a backend: an encoder-decoder over semantic ids, trained on the past and then on the coreset."""

import json
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from peft import PeftModel

from dealrec_core import schema
from dealrec_core.language import batch_tokens, effort, lora
from dealrec_core.language.answer_loss import Losses
from dealrec_core.language.language_model import weighted_mean
from dealrec_core.language.progress import Progress, silent
from dealrec_core.recommenders import bundle, semantic_ids, tiger, tuned
from dealrec_core.recommenders.semantic_ids import SemanticIds
from dealrec_core.recommenders.tiger import Tiger
from dealrec_core.recommenders.tuned import ItemStatistics, Tuned
from dealrec_core.samples.items import Catalogue
from dealrec_core.samples.sequences import Sequences, encode
from dealrec_core.settings.tree import Algorithms


@dataclass(frozen=True)
class TigerBackend:
    """TIGER with its settings (`backend`). Its base is always built here and has no name of its own."""

    settings: Algorithms
    device: torch.device
    seed: int
    name: str = "tiger"
    base_name: str = "tiger"

    def base_key(self) -> list[str]:
        """The settings of the network, its pretraining and the semantic ids, and the seed."""
        network = self.settings.tiger.model_dump(exclude={"tuning", "lora", "epochs", "beams"})
        ids = self.settings.semantic_ids.model_dump_json()
        return [self.name, json.dumps(network), ids, str(self.seed)]

    def outside_key(self) -> list[str]:
        """Nothing comes from outside."""
        return []

    def prepare(
        self,
        folder: Path,
        catalogue: Catalogue,
        past: pl.DataFrame,
        checkpoints: Path | None = None,
        progress: Progress = silent,
    ) -> None:
        """Fits semantic ids and trains a network on the past; its newest tenth chooses the best epoch."""
        ids = semantic_ids.fit(catalogue, config=self.settings.semantic_ids, seed=self.seed)
        ordered = past.sort(schema.TIMESTAMP, schema.SAMPLE_ID)
        tenth, config = max(1, len(ordered) // 10), self.settings.tiger
        older, held = (encode(part, ids.item_ids) for part in (ordered[:-tenth], ordered[-tenth:]))
        full = config.model_copy(update={"tuning": "full", "epochs": config.pretraining_epochs})
        trained = tiger.train(
            older,
            held,
            ids,
            config=full,
            seed=self.seed,
            device=self.device,
            checkpoint_folder=checkpoints,
            progress=progress,
        )
        bundle.save(folder, Tiger(self.name, trained.model, ids, [], config), lineage={"pretrained": True})

    def effort_key(self) -> list[str]:
        """The seed, and the settings of effort, adapter and history."""
        effort_settings = self.settings.effort.model_dump_json(exclude={"refresh", "shard_samples", "batch_tokens"})
        config = self.settings.tiger
        return [str(self.seed), effort_settings, config.lora.model_dump_json(), str(config.history_length)]

    def open(self, base: Path | str, catalogue: Catalogue, champion: Path | None = None) -> "OpenedTiger":
        """The base's network, with semantic ids for all items of a catalogue."""
        return OpenedTiger(self.settings, self.device, self.seed, Path(base), catalogue, champion)


@dataclass(frozen=True)
class OpenedTiger:
    """A TIGER on a catalogue (`backend`).

    Items keep the codes that the champion, else the base, gave them; items without a code get one.
    """

    settings: Algorithms
    device: torch.device
    seed: int
    base: Path
    catalogue: Catalogue
    champion: Path | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}  # less the networks

    def adapted(self, champion: Path | None) -> AbstractContextManager[PeftModel]:
        """The base's or the champion's network with a fresh adapter, for a while."""
        model, adapter = self._tiger(champion or self.base).model, self.settings.tiger.lora
        return lora.borrowed(model, adapter, seed=self.seed, device=self.device)

    def losses(self, model: Any, samples: pl.DataFrame, *, batch_tokens: int, prompts_too: bool = False) -> Losses:
        """Yields (rows, code losses (B,)) by a model; `prompts_too` has no meaning here."""
        config = self.settings.tiger
        return tiger.sample_losses(model, self._encoded(samples), self._ids, config=config, batch_tokens=batch_tokens)

    @torch.no_grad()
    def hidden(self, samples: pl.DataFrame) -> np.ndarray:
        """The encoder's pooled states (`weighted_mean`) of the codes of histories and targets, float32 (N, D)."""
        encoded, tokens, config = self._encoded(samples), tiger.item_tokens(self._ids), self.settings.tiger
        encoder: Any = self._tiger(self.base).model.eval().get_encoder()
        pooled = np.empty((len(encoded), config.width), dtype=np.float32)
        most = batch_tokens.resolve(self.settings.effort.batch_tokens, encoder, most=effort.MOST_TOKENS)
        for rows in tiger.exact_batches(encoded, config, batch_tokens=most, ids=self._ids):
            items, targets = tiger.newest(encoded, rows, config.history_length)
            texts = torch.from_numpy(tokens[np.column_stack([items, targets])].reshape(len(rows), -1))
            states = encoder(input_ids=texts.to(self.device)).last_hidden_state
            pooled[rows] = weighted_mean(states, torch.ones(states.shape[:2], dtype=torch.bool)).cpu().numpy()
        return pooled

    def tokens(self, samples: pl.DataFrame) -> np.ndarray:
        """Codes that are read and written for each sample in an epoch, int64 (N,); loads no model."""
        lengths = samples[schema.HISTORY].list.len().to_numpy()
        return tiger.token_counts(lengths, self.settings.tiger, self.settings.semantic_ids.levels + 1)

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
        """Tunes the base's or the champion's network (`fine_tune.start`); the best epoch on the held samples counts, or `stop`."""
        config, ids = self.settings.tiger, self._ids
        start = self.champion if self.settings.fine_tune.start == "champion" else None
        model = self._tiger(start or self.base).model
        del self._loaded[start or self.base]  # tuning changes it
        parameters = model.num_parameters()
        trained = tiger.train(
            self._encoded(chosen),
            self._encoded(held),
            ids,
            config=config,
            seed=self.seed,
            device=self.device,
            initial=model,
            stop=stop,
            checkpoint_folder=checkpoint_folder,
            progress=progress,
        )
        recommender = Tiger("candidate", trained.model, ids, statistics.popular, config)
        result = tuned.tuned(recommender, trained, start, parameters=parameters)
        result.facts["items coded tonight"] = len(ids.item_ids) - len(self._given_ids.item_ids)
        return result

    @cached_property
    def _loaded(self) -> dict[Path, Tiger]:
        return {}

    def _tiger(self, folder: Path) -> Tiger:
        """The TIGER of a bundle, loaded once."""
        if folder not in self._loaded:
            recommender = bundle.load(folder, device=self.device)
            assert isinstance(recommender, Tiger)
            self._loaded[folder] = recommender
        return self._loaded[folder]

    @cached_property
    def _given_ids(self) -> SemanticIds:
        """The codes that items have already."""
        return self._tiger(self.champion or self.base).ids

    @cached_property
    def _ids(self) -> SemanticIds:
        return self._given_ids.extended(self.catalogue)

    def _encoded(self, samples: pl.DataFrame) -> Sequences:
        return encode(samples, self._ids.item_ids)
