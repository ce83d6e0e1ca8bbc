"""TIGER as a backend: an encoder-decoder over semantic ids, trained on the past and then on the coreset."""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from peft import PeftModel
from transformers import T5ForConditionalGeneration

from dealrec_core import schema
from dealrec_core.errors import DataError
from dealrec_core.language import effort, lora
from dealrec_core.language.answer_loss import Losses
from dealrec_core.language.progress import Progress, silent
from dealrec_core.recommenders import bundle, hidden, semantic_ids, tiger
from dealrec_core.recommenders.bigrec import BIGRec
from dealrec_core.recommenders.protocol import BackendSettings, Gradients, ItemStatistics, Tuned, tuning_facts
from dealrec_core.recommenders.semantic_ids import SemanticIds
from dealrec_core.recommenders.tiger import Tiger
from dealrec_core.samples.items import Catalogue
from dealrec_core.samples.sequences import Sequences, encode

LIKELIHOOD_TOKENS = 8192
"""Most codes of a batch where likelihoods are computed, without gradients."""


@dataclass(frozen=True)
class TigerBackend:
    """TIGER with its settings (`protocol.Backend`)."""

    settings: BackendSettings
    device: torch.device
    seed: int
    name: str = "tiger"

    @property
    def base_name(self) -> str:
        """The base has no other name."""
        return self.name

    @property
    def base_location(self) -> str:
        """TIGER's base is always built here."""
        raise DataError("TIGER's base is built from the lake's samples; it has no location outside")

    def base_key(self) -> list[str]:
        """The settings of the network, its pretraining and the semantic ids, and the seed."""
        network = self.settings.tiger.model_dump(exclude={"tuning", "lora", "epochs", "beams"})
        ids = self.settings.semantic_ids.model_dump_json()
        return [self.name, json.dumps(network), ids, str(self.seed)]

    def outside_key(self) -> list[str]:
        """Nothing comes from outside."""
        return []

    def prepare(
        self, folder: Path, catalogue: Catalogue, past: pl.DataFrame, checkpoint_folder: Path | None = None
    ) -> None:
        """Fits semantic ids and trains a network on the past; its newest tenth chooses the best epoch."""
        ids = semantic_ids.fit(catalogue, config=self.settings.semantic_ids, seed=self.seed)
        ordered = past.sort(schema.TIMESTAMP, schema.SAMPLE_ID)
        held = max(1, len(ordered) // 10)
        config = self.settings.tiger
        trained = tiger.train(
            encode(ordered[:-held], ids.item_ids),
            encode(ordered[-held:], ids.item_ids),
            ids,
            config=config.model_copy(update={"tuning": "full", "epochs": config.pretraining_epochs}),
            seed=self.seed,
            device=self.device,
            checkpoint_folder=checkpoint_folder,
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

    def save(self, folder: Path, tuned: Tuned, lineage: Mapping[str, str | int | float | None]) -> None:
        """Writes the bundle: network, semantic ids and settings."""
        bundle.save(folder, tuned.recommender, lineage=lineage)


@dataclass(frozen=True)
class OpenedTiger:
    """A TIGER on a catalogue (`protocol.OpenedBase`).

    Items keep the codes that the champion, else the base, gave them; items without a code get one.
    """

    settings: BackendSettings
    device: torch.device
    seed: int
    base: Path
    catalogue: Catalogue
    champion: Path | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}  # less the networks

    def effort(self, samples: pl.DataFrame) -> np.ndarray:
        """The norm of each code loss's gradient, by a fresh adapter on the base's or on the champion's network."""
        scored = self.champion if self.settings.effort.model == "champion" else None
        with self._adapted(self._tiger(scored or self.base).model) as tuned:
            losses = self._losses(tuned, samples)
            sample_ids = samples[schema.SAMPLE_ID].to_list()
            return effort.norms(tuned, losses, sample_ids, parameters=self.settings.effort.parameters)

    def gradients(self, samples: pl.DataFrame) -> Gradients:
        """Yields the code losses' gradients by a fresh adapter on the base's network."""
        with self._adapted(self._tiger(self.base).model) as tuned:
            losses = self._losses(tuned, samples)
            yield from effort.gradients(tuned, losses, parameters=self.settings.effort.parameters)

    def hidden(self, samples: pl.DataFrame) -> np.ndarray:
        """The encoder's pooled states of histories and targets, float32 (N, D)."""
        model, config = self._tiger(self.base).model, self.settings.tiger
        most = self.settings.effort.batch_tokens
        return hidden.of_histories(model, self._encoded(samples), self._ids, config=config, batch_tokens=most)

    def tokens(self, samples: pl.DataFrame) -> np.ndarray:
        """Codes that are read and written for each sample, int64 (N,)."""
        lengths = samples[schema.HISTORY].list.len().to_numpy()
        return tiger.token_counts(lengths, self.settings.tiger, self.settings.semantic_ids.levels + 1)

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
        """Tunes the base's or the champion's network, which is loaded anew for the next question."""
        config, ids = self.settings.tiger, self._ids
        start = self.champion if self.settings.fine_tune.start == "champion" else None
        model = self._taken(start or self.base)
        parameters = sum(weight.numel() for weight in model.parameters())
        trained = tiger.train(
            self._encoded(chosen),
            self._encoded(held),
            ids,
            config=config,
            seed=self.seed if seed is None else seed,
            device=self.device,
            initial=model,
            checkpoint_folder=checkpoint_folder,
            progress=progress,
        )
        facts: dict[str, str | int | float] = {
            "started from": "base" if start is None else "champion",
            "items coded tonight": len(ids.item_ids) - len(self._given_ids.item_ids),
            **tuning_facts(trained, "loss"),
        }
        recommender = Tiger("candidate", trained.model, ids, statistics.popular, config)
        return Tuned(recommender, trained.tokens, 6.0 * parameters * trained.tokens, facts)

    @torch.no_grad()
    def log_likelihood(self, recommender: BIGRec | Tiger, samples: pl.DataFrame) -> np.ndarray:
        """The mean log-probability of a code of each target, float64 (N,)."""
        encoded, config = self._encoded(samples), self.settings.tiger
        likelihoods = np.empty(len(encoded))
        losses = tiger.sample_losses(
            recommender.model.eval(), encoded, self._ids, config=config, batch_tokens=LIKELIHOOD_TOKENS
        )
        for rows, batch in losses:
            likelihoods[rows] = -batch.cpu().numpy()
        return likelihoods

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

    def _taken(self, folder: Path) -> T5ForConditionalGeneration:
        """The network of a bundle for good, since tuning changes it; the next question loads another."""
        model = self._tiger(folder).model
        del self._loaded[folder]
        return model

    @cached_property
    def _given_ids(self) -> SemanticIds:
        """The codes that items have already."""
        return self._tiger(self.champion or self.base).ids

    @cached_property
    def _ids(self) -> SemanticIds:
        return self._given_ids.extended(self.catalogue)

    def _encoded(self, samples: pl.DataFrame) -> Sequences:
        return encode(samples, self._ids.item_ids)

    def _adapted(self, model: T5ForConditionalGeneration) -> AbstractContextManager[PeftModel]:
        return lora.borrowed(model, self.settings.tiger.lora, seed=self.seed, device=self.device)

    def _losses(self, model: PeftModel, samples: pl.DataFrame) -> Losses:
        return tiger.sample_losses(
            model,
            self._encoded(samples),
            self._ids,
            config=self.settings.tiger,
            batch_tokens=self.settings.effort.batch_tokens,
        )
