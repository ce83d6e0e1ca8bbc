"""What a coreset is judged through: BIGRec, TIGER, or a small surrogate as a cheap proxy of both.

Each backend owns a base model that all cells share, says what that base thinks of samples (effort, gradients, hidden
states), and tunes a fresh copy on a coreset.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import polars as pl
import torch
from safetensors import torch as safetensors
from torch import Tensor

from dealrec_core import schema
from dealrec_core.evaluation import proxy, ranking
from dealrec_core.language import effort, fine_tuning, language_model
from dealrec_core.language.answer_loss import answer_losses, length_batches
from dealrec_core.language.prompts import Example, Prompter
from dealrec_core.recommenders import hidden, semantic_ids, tiger
from dealrec_core.recommenders.bigrec import BIGRec
from dealrec_core.recommenders.semantic_ids import SemanticIds
from dealrec_core.recommenders.tiger import Tiger
from dealrec_core.samples.recommender import Recommender
from dealrec_core.samples.sequences import Sequences, encode
from dealrec_core.study.config import StudyConfig
from dealrec_core.study.data import StudyData
from dealrec_core.study.shelf import Shelf
from dealrec_core.surrogate.logits import blocks
from dealrec_core.surrogate.recommender import SurrogateRecommender

CPU = torch.device("cpu")
WEIGHTS = "weights.safetensors"
Gradients = Iterator[tuple[np.ndarray, dict[str, Tensor]]]


class Tuned(NamedTuple):
    """A recommender tuned on a coreset, and what tuning took."""

    recommender: Recommender
    log_likelihood: np.ndarray
    """Mean log-probability of a token (of an item, for the proxy) of each case's first target, (U,)."""
    tokens: int
    flops: float
    """6 · parameters · tokens: forward and backward of dense layers, the usual convention."""


class Backend(Protocol):
    """One way to judge a coreset."""

    def effort(self, samples: pl.DataFrame) -> np.ndarray:
        """Gradient norm of each sample, (N,)."""
        ...

    def gradients(self, samples: pl.DataFrame) -> Gradients:
        """Batches of per-sample LoRA gradients."""
        ...

    def hidden(self, samples: pl.DataFrame) -> np.ndarray:
        """Pooled hidden states, (N, D)."""
        ...

    def tokens(self, samples: pl.DataFrame) -> np.ndarray:
        """Tokens that each sample costs in an epoch, int64 (N,)."""
        ...

    def prepare(self) -> None:
        """Makes the base that all cells share."""
        ...

    def tune(self, chosen: pl.DataFrame, seed: int) -> Tuned:
        """Tunes a copy of the base on the chosen samples."""
        ...

    @property
    def parameters(self) -> int:
        """Of the base model."""
        ...


def build(name: str, data: StudyData, config: StudyConfig, shelf: Shelf) -> Any:
    """The backend of that name."""
    made: dict[str, Any] = {"bigrec": BIGRecBackend, "tiger": TigerBackend, "proxy": ProxyBackend}
    return made[name](data, config, shelf)


@dataclass
class BIGRecBackend:
    """A small Llama, pretrained on the older half of the histories, tuned by LoRA."""

    data: StudyData
    config: StudyConfig
    shelf: Shelf

    @cached_property
    def base(self) -> Path:
        """Folder of the base model."""
        settings = self.config.language_model
        if not settings.embedded:
            return Path(settings.base_model)
        title_of = self.data.catalogue.title_of
        past = [[title_of[item] for item in items] for items in self.data.past]
        return self.shelf.kept(
            "bigrec-base",
            lambda folder: language_model.build(
                folder,
                self.data.catalogue.titles,
                past,
                config=settings,
                prompt=self.config.bigrec.prompt,
                seed=self.config.seed,
            ),
        )

    @cached_property
    def parameters(self) -> int:
        """Of the base model."""
        return int(self._load()[0].num_parameters())

    def prepare(self) -> None:
        """Pretrains the base, once."""
        _ = self.base

    def effort(self, samples: pl.DataFrame) -> np.ndarray:
        """Norm of the answer loss's gradient by a fresh adapter."""
        model, tokenizer = self._load()
        return effort.score(model, tokenizer, self.examples(samples), config=self.config.effort, **self._told)

    def gradients(self, samples: pl.DataFrame) -> Gradients:
        """By a fresh adapter."""
        model, tokenizer = self._load()
        return effort.example_gradients(
            model, tokenizer, self.examples(samples), config=self.config.effort, **self._told
        )

    def hidden(self, samples: pl.DataFrame) -> np.ndarray:
        """Of prompt and answer, by the base."""
        model, tokenizer = self._load()
        most = self.config.effort.batch_tokens
        return hidden.of_examples(
            model, tokenizer, self.examples(samples), prompt=self._prompt, batch_tokens=most, device=CPU
        )

    def tokens(self, samples: pl.DataFrame) -> np.ndarray:
        """Prompt and answer."""
        prompter = Prompter(self._load()[1], self._prompt)
        return np.array([prompter.length(example) for example in self.examples(samples)], dtype=np.int64)

    def tune(self, chosen: pl.DataFrame, seed: int) -> Tuned:
        """LoRA on the answers; the epoch with the least loss on recent samples."""
        model, tokenizer = self._load()
        held = self.data.recent.tail(self.config.fine_tune.validation_examples)
        found = fine_tuning.fine_tune(
            model,
            tokenizer,
            self.examples(chosen),
            self.examples(held),
            prompt=self._prompt,
            config=self.config.fine_tune,
            seed=seed,
            device=CPU,
        )
        ranker = BIGRec(
            "bigrec", found.model, tokenizer, self.data.catalogue, _popular(self.data), config=self.config.bigrec
        )
        likelihood = self._log_likelihood(found.model, tokenizer)
        return Tuned(ranker, likelihood, found.tokens, 6.0 * self.parameters * found.tokens)

    def examples(self, samples: pl.DataFrame) -> list[Example]:
        """Samples as text."""
        title_of, longest = self.data.catalogue.title_of, self.config.bigrec.history_length
        return [
            Example([title_of[item] for item in row[schema.HISTORY][-longest:]], title_of[row[schema.ITEM_ID]])
            for row in samples.iter_rows(named=True)
        ]

    @torch.no_grad()
    def _log_likelihood(self, model: Any, tokenizer: Any) -> np.ndarray:
        prompter = Prompter(tokenizer, self._prompt)
        rows = [prompter.row(example) for example in self.examples(_first_targets(self.data))]
        found = np.empty(len(rows))
        for batch in length_batches(np.array([len(given) + len(answer) for given, answer in rows]), 8192):
            found[batch] = -answer_losses(model, [rows[row] for row in batch], device=CPU).cpu().numpy()
        return found

    @property
    def _prompt(self) -> Any:
        return self.config.bigrec.prompt

    @property
    def _told(self) -> dict[str, Any]:
        return {
            "prompt": self._prompt,
            "lora": self.config.fine_tune.lora,
            "seed": self.config.seed,
            "device": CPU,
        }

    def _load(self) -> Any:
        return language_model.load(str(self.base), device=CPU)


@dataclass
class TigerBackend:
    """A small T5 over semantic ids, trained on the older half of the histories, then tuned on the coreset."""

    data: StudyData
    config: StudyConfig
    shelf: Shelf

    @cached_property
    def ids(self) -> SemanticIds:
        """Codes of the catalogue; deterministic, so they are made anew by every process."""
        return semantic_ids.fit(self.data.catalogue, config=self.config.semantic_ids, seed=self.config.seed)

    @cached_property
    def base(self) -> Path:
        """Folder with the base's weights."""
        return self.shelf.kept("tiger-base", self._pretrain)

    @cached_property
    def parameters(self) -> int:
        """Of the base model."""
        return sum(weight.numel() for weight in tiger.network(self.config.tiger, self.ids).parameters())

    def prepare(self) -> None:
        """Trains the base, once."""
        _ = self.base

    def effort(self, samples: pl.DataFrame) -> np.ndarray:
        """Norm of the loss's gradient by a fresh adapter."""
        return effort.score_tiger(self._load(), self._encoded(samples), self.ids, **self._told)

    def gradients(self, samples: pl.DataFrame) -> Gradients:
        """By a fresh adapter."""
        return effort.tiger_gradients(self._load(), self._encoded(samples), self.ids, **self._told)

    def hidden(self, samples: pl.DataFrame) -> np.ndarray:
        """Of the encoder over history and target."""
        most = self.config.effort.batch_tokens
        return hidden.of_histories(
            self._load(), self._encoded(samples), self.ids, network=self.config.tiger, batch_tokens=most, device=CPU
        )

    def tokens(self, samples: pl.DataFrame) -> np.ndarray:
        """Codes read and written."""
        lengths = np.minimum(samples[schema.HISTORY].list.len().to_numpy(), self.config.tiger.history_length)
        return (lengths.astype(np.int64) + 1) * self.ids.codes.shape[1]

    def tune(self, chosen: pl.DataFrame, seed: int) -> Tuned:
        """As `tiger.tuning` says; the epoch with the least loss on recent samples."""
        held = self.data.recent.tail(self.config.fine_tune.validation_examples)
        settings = self.config.tiger
        if self.config.tuning_rate is not None:
            settings = settings.model_copy(update={"learning_rate": self.config.tuning_rate})
        trained = tiger.train(
            self._encoded(chosen),
            self._encoded(held),
            self.ids,
            config=settings,
            seed=seed,
            device=CPU,
            initial=self._load(),
        )
        ranker = Tiger("tiger", trained.model, self.ids, _popular(self.data), self.config.tiger)
        tokens = int(self.tokens(chosen).sum()) * len(trained.losses)
        return Tuned(ranker, self._log_likelihood(trained.model), tokens, 6.0 * self.parameters * tokens)

    @torch.no_grad()
    def _log_likelihood(self, model: Any) -> np.ndarray:
        cases = self._encoded(_first_targets(self.data))
        found = np.empty(len(cases))
        length = self.config.tiger.history_length
        for rows in tiger.exact_batches(cases, self.config.tiger, batch_tokens=8192, ids=self.ids):
            found[rows] = -tiger.losses(model.eval(), cases, rows, self.ids, history_length=length).numpy()
        return found

    def _pretrain(self, folder: Path) -> None:
        samples = _older(self.data)
        held = self._encoded(self.data.recent.tail(self.config.fine_tune.validation_examples))
        update = {"epochs": self.config.pretraining_epochs, "tuning": "full"}
        own = self.config.tiger.model_copy(update=update)
        trained = tiger.train(self._encoded(samples), held, self.ids, config=own, seed=self.config.seed, device=CPU)
        weights = {name: weight.detach().contiguous() for name, weight in trained.model.named_parameters()}
        safetensors.save_file(weights, folder / WEIGHTS)

    def _load(self) -> Any:
        with torch.random.fork_rng(devices=[]):
            model = tiger.network(self.config.tiger, self.ids)
        model.load_state_dict(safetensors.load_file(self.base / WEIGHTS), strict=False)  # tied weights are kept once
        return model.eval()

    def _encoded(self, samples: pl.DataFrame) -> Sequences:
        return encode(samples, self.ids.item_ids)

    @property
    def _told(self) -> dict[str, Any]:
        return {
            "network": self.config.tiger,
            "config": self.config.effort,
            "lora": self.config.fine_tune.lora,
            "seed": self.config.seed,
            "device": CPU,
        }


class ProxyBackend(BIGRecBackend):
    """A small SASRec trained on the coreset alone; what it asks of samples is asked of BIGRec's base."""

    def prepare(self) -> None:
        """There is no base: it learns from the coreset alone."""

    def tune(self, chosen: pl.DataFrame, seed: int) -> Tuned:
        """A fixed number of epochs from scratch; the best on recent samples."""
        item_ids = self.data.catalogue.item_ids
        settings = proxy.config(**self.config.proxy.model_dump())
        trained = proxy.fit(chosen, self.data.recent, item_ids, settings=settings, seed=seed)
        ranker = SurrogateRecommender(trained.model, item_ids, popular=_popular(self.data))
        tokens = int(chosen[schema.HISTORY].list.len().sum()) * trained.epochs
        parameters = sum(weight.numel() for weight in trained.model.parameters())
        cases = encode(_first_targets(self.data), item_ids)
        return Tuned(ranker, item_log_likelihood(trained.model, cases), tokens, 6.0 * parameters * tokens)


def item_log_likelihood(model: Any, samples: Sequences) -> np.ndarray:
    """log p(target) over the catalogue, (N,)."""
    likelihood = np.empty(len(samples))
    for rows, _, logits, targets in blocks(model, samples, batch_tokens=4096, cells=2**21):
        likelihood[rows] = logits.log_softmax(1).gather(1, targets)[:, 0].numpy()
    return likelihood


def judged(tuned: Tuned, data: StudyData, config: StudyConfig) -> pl.DataFrame:
    """user_id, recall, ndcg, mrr and log_likelihood of every case, in the order of the cases."""
    found = ranking.evaluate(tuned.recommender, data.cases, config.evaluation)
    return found.drop("recommender").with_columns(pl.Series("log_likelihood", tuned.log_likelihood))


def _first_targets(data: StudyData) -> pl.DataFrame:
    """The cases as samples of their first target."""
    return data.cases.with_columns(pl.col("targets").list.first().alias(schema.ITEM_ID))


def _older(data: StudyData) -> pl.DataFrame:
    """Every step of the older halves as a sample: at most five a user, the newest."""
    rows = [
        (items[max(0, stop - 20) : stop], items[stop])
        for items in data.past
        for stop in range(max(1, len(items) - 5), len(items))
    ]
    return pl.DataFrame(rows, schema=[schema.HISTORY, schema.ITEM_ID], orient="row")


def _popular(data: StudyData) -> list[str]:
    return [item for item, _ in sorted(data.counts.items(), key=lambda pair: (-pair[1], pair[0]))][:1000]
