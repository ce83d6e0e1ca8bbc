"""TIGER (Rajput et al. 2023): an encoder-decoder reads the codes of a history and writes those of the next item."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import T5Config, T5ForConditionalGeneration

from dealrec_core.errors import DataError, SettingsError
from dealrec_core.language import checkpoints, training
from dealrec_core.language.answer_loss import Losses
from dealrec_core.language.lora import with_lora
from dealrec_core.language.progress import Progress, silent
from dealrec_core.language.training import Pace, Trained
from dealrec_core.recommenders.decoding import Beams, Trie, expanded, trie
from dealrec_core.recommenders.semantic_ids import SemanticIds
from dealrec_core.samples.calibration import Calibration, Scored
from dealrec_core.samples.sequences import Sequences
from dealrec_core.settings.recommenders import TigerConfig

START = 0
"""Token 0 begins every answer; codes follow, each level with tokens of its own."""


def train(
    samples: Sequences,
    validation: Sequences,
    ids: SemanticIds,
    *,
    config: TigerConfig,
    seed: int,
    device: torch.device,
    initial: T5ForConditionalGeneration | None = None,
    stop: int | None = None,
    checkpoint_folder: Path | None = None,
    progress: Progress = silent,
) -> Trained:
    """Trains on (history, next item); items are numbered as in `ids.item_ids`. The best epoch has the least validation loss.

    initial: a model of the same shape to start from; it is changed in place. stop: as for `Pace`. checkpoint_folder, progress: as for
    `training.train`, with a checkpoint of every epoch.

    Raises:
        SettingsError: tuning is 'lora' and there is no model to start from.
        DataError: no sample, or none to validate on.
        NotFinite: the loss is NaN or infinite.
    """
    if not len(samples) or not len(validation):
        raise DataError(f"{len(samples)} samples and {len(validation)} to validate on; TIGER needs both")
    if config.tuning == "lora" and initial is None:
        raise SettingsError("TIGER's tuning 'lora' needs a model to start from; use 'full' for the first one")
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        plain = initial or network(config, ids)
        model: Any = with_lora(plain, config.lora, seed=seed) if config.tuning == "lora" else plain
    learner = _Learner(model.to(device), samples, validation, ids, config=config, seed=seed)
    pace = Pace(
        config.epochs,
        config.patience,
        config.learning_rate,
        setting="tiger.learning_rate",
        falls=False,
        weight_decay=0.01,
        checkpoint_steps=None,
        stop=stop,
    )
    trained = training.train(learner, pace, checkpoint_folder=checkpoint_folder, progress=progress)
    merged = model.merge_and_unload() if config.tuning == "lora" else model
    return replace(trained, model=merged.requires_grad_(True).eval())


class _Learner:
    """A network, and histories with next items to learn (`training.Learner`)."""

    def __init__(
        self, model: Any, samples: Sequences, validation: Sequences, ids: SemanticIds, *, config: TigerConfig, seed: int
    ) -> None:
        self.model, self._samples, self._validation, self._ids = model, samples, validation, ids
        self._config, self._seed = config, seed
        self._lengths = np.minimum(samples.lengths, config.history_length)
        self.samples = len(samples)
        self.names: Sequence[object] = range(self.samples)
        counts = np.unique(self._lengths, return_counts=True)[1].tolist()
        self.steps_an_epoch = sum(math.ceil(count / config.batch_size) for count in counts)
        self.tokens = int(token_counts(samples.lengths, config, ids.codes.shape[1]).sum())
        digest = hashlib.sha256(repr([config.model_dump_json(), seed]).encode())
        for part in (samples, validation):
            for array in (part.items, part.offsets, part.targets):
                digest.update(array.tobytes())
        digest.update(ids.codes.tobytes())
        digest.update(checkpoints.fingerprint(model).encode())
        self.fingerprint = digest.hexdigest()

    def batches(self, epoch: int) -> list[np.ndarray]:
        """Rows of one length, in random order, with random neighbours; the epoch's dropout begins here, by its number."""
        seed = self._seed + epoch + 1
        torch.manual_seed(seed)
        random = np.random.default_rng(seed)
        size, shuffled = self._config.batch_size, random.permutation(self.samples)
        batches = []
        for length in np.unique(self._lengths):
            rows = shuffled[self._lengths[shuffled] == length]
            batches += [rows[start : start + size] for start in range(0, len(rows), size)]
        return [batches[place] for place in random.permutation(len(batches))]

    def losses(self, batch: np.ndarray, step: int) -> Iterator[Tensor]:
        """The summed loss of the whole batch."""
        length = self._config.history_length
        yield losses(self.model, self._samples, batch, self._ids, history_length=length).sum()

    def validation(self) -> tuple[float, float]:
        """The mean loss of the validation samples; the quality is its negative."""
        loss = mean_loss(self.model, self._validation, self._ids, config=self._config)
        return loss, -loss


def losses(model: Any, samples: Sequences, rows: np.ndarray, ids: SemanticIds, *, history_length: int) -> Tensor:
    """Mean cross-entropy of the codes of each row's target, (B,); the rows must be of one length once they are cut."""
    device, tokens = next(model.parameters()).device, item_tokens(ids)
    items, targets = newest(samples, rows, history_length)
    history = torch.from_numpy(tokens[items].reshape(len(rows), -1)).to(device)  # (B, L * levels)
    answer = torch.from_numpy(tokens[targets]).to(device)  # (B, levels)
    given = functional.pad(answer[:, :-1], (1, 0), value=START)
    logits = model(input_ids=history, decoder_input_ids=given, use_cache=False).logits
    return functional.cross_entropy(logits.float().transpose(1, 2), answer, reduction="none").mean(1)


def sample_losses(
    model: Any, samples: Sequences, ids: SemanticIds, *, config: TigerConfig, batch_tokens: int
) -> Losses:
    """Yields (rows, loss of each row (B,)) by `exact_batches`, on the model's device."""
    for rows in exact_batches(samples, config, batch_tokens=batch_tokens, ids=ids):
        yield rows, losses(model, samples, rows, ids, history_length=config.history_length)


@torch.no_grad()
def mean_loss(model: Any, samples: Sequences, ids: SemanticIds, *, config: TigerConfig) -> float:
    """The mean loss of all samples, dropout off."""
    model.eval()
    batches = sample_losses(model, samples, ids, config=config, batch_tokens=16384)
    return sum(float(batch.sum()) for _, batch in batches) / len(samples)


def exact_batches(
    samples: Sequences, config: TigerConfig, *, batch_tokens: int, ids: SemanticIds
) -> Iterator[np.ndarray]:
    """Batches of one row, or of rows of one length whose codes, read and written, are at most `batch_tokens`."""
    lengths = np.minimum(samples.lengths, config.history_length)
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        step = max(1, batch_tokens // ((int(length) + 1) * ids.codes.shape[1]))
        yield from (rows[start : start + step] for start in range(0, len(rows), step))


def item_tokens(ids: SemanticIds) -> np.ndarray:
    """Tokens of every item, int64 (V, levels + 1): code c of level l is token 1 + l * size + c."""
    return np.asarray(ids.codes + 1 + ids.size * np.arange(ids.codes.shape[1]))


def token_counts(lengths: np.ndarray, config: TigerConfig, code_length: int) -> np.ndarray:
    """Codes that are read and written for samples with histories of these lengths, int64 (N,)."""
    return np.asarray((np.minimum(lengths, config.history_length).astype(np.int64) + 1) * code_length)


def newest(samples: Sequences, rows: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Histories (B, L) and targets (B,) of rows that are of one length once cut to the newest `length` items."""
    cut = min(length, int(samples.lengths[rows[0]]))
    flat = samples.offsets[rows + 1][:, None] - cut + np.arange(cut)
    return samples.items[flat], samples.targets[rows]


@dataclass(frozen=True)
class Tiger:
    """Ranks items by the probability of their codes after the history; every answer is a catalogue item.

    Unknown ids of a history are skipped; a history with no known item is answered with the popular items.
    """

    name: str
    model: T5ForConditionalGeneration = field(repr=False)
    ids: SemanticIds = field(repr=False)
    popular: list[str] = field(repr=False)
    """Item ids, best first."""
    config: TigerConfig
    batch_size: int = 64
    calibration: Calibration | None = field(default=None, repr=False)

    def recommend(self, histories: Sequence[Sequence[str]], k: int) -> list[list[str]]:
        """The k best items for each history."""
        return [[item for item, _ in ranking] for ranking in self.scored(histories, k, self.calibration)]

    def scored(self, histories: Sequence[Sequence[str]], k: int, calibration: Calibration | None) -> list[Scored]:
        """The k best items for each history, and the log probability of their codes (`samples.calibration`)."""
        place, bounds = self._place, None
        if calibration is not None:
            bounds = self._trie.bounds(calibration.of(self.ids.item_ids))
        read = [
            [place[item] for item in history if item in place][-self.config.history_length :] for history in histories
        ]
        answers = [[(item, 0.0) for item in self.popular[:k]] for _ in histories]
        for length in sorted({len(items) for items in read if items}):
            rows = [row for row, items in enumerate(read) if len(items) == length]
            for start in range(0, len(rows), self.batch_size):
                part = rows[start : start + self.batch_size]
                items, beams = np.array([read[row] for row in part]), max(self.config.beams, k)
                for row, ranking in zip(part, self._best(items, beams=beams, bounds=bounds), strict=True):
                    answers[row] = [(self.ids.item_ids[item], score) for item, score in ranking[:k]]
        return answers

    @property
    def title_chances(self) -> None:
        """None: it writes codes."""

    @torch.no_grad()
    def _best(self, items: np.ndarray, *, beams: int, bounds: np.ndarray | None) -> list[list[tuple[int, float]]]:
        """Item rows with log probabilities by beam search over the trie of codes; items int64 (B, L) without padding."""
        model, tokens = self.model.eval(), self._tokens
        device = next(model.parameters()).device
        history = torch.from_numpy(tokens[items].reshape(len(items), -1)).to(device)  # (B, L * levels)
        encoded = model.get_encoder()(input_ids=history).last_hidden_state
        users = np.arange(len(items))
        beam = Beams(users, np.zeros(len(items), dtype=np.int64), np.zeros(len(items)))
        written = np.full((len(items), 1), START)
        for _ in range(tokens.shape[1]):  # all codes are of one length, so all beams end together
            logits = _next_code(model, encoded, beam.users, written)
            every = np.arange(len(beam.users))
            beam, parents, chosen = expanded(beam, every, logits, self._trie, beams=beams, bounds=bounds)
            written = np.concatenate([written[parents], chosen[:, None]], 1)
        return [beam.of(user, self._trie) for user in range(len(items))]

    @cached_property
    def _tokens(self) -> np.ndarray:
        return item_tokens(self.ids)

    @cached_property
    def _trie(self) -> Trie:
        return trie(self._tokens.tolist())

    @cached_property
    def _place(self) -> dict[str, int]:
        return {item: row for row, item in enumerate(self.ids.item_ids)}


def _next_code(model: T5ForConditionalGeneration, encoded: Tensor, users: np.ndarray, written: np.ndarray) -> Tensor:
    """Logits (H, vocabulary) after the codes that each hypothesis has written, int64 (H, T); users ascend from 0, none is missing.

    The hypotheses of a user stand one after the other in one row, and none sees another: the keys and values of what the
    encoder read, encoded (B, L, D), are then computed once a user. T5 knows distances only, not where a hypothesis begins.
    """
    count, length = len(written), written.shape[1]
    number = np.arange(count) - np.searchsorted(users, users)
    most = int(number.max()) + 1
    ids = torch.full((len(encoded), most, length), START, device=encoded.device)
    here = torch.from_numpy(users).to(encoded.device), torch.from_numpy(number).to(encoded.device)
    ids[here] = torch.from_numpy(written).to(encoded.device)
    visible = torch.eye(most, device=encoded.device).bool().kron(encoded.new_ones(length, length).bool().tril())
    mask = encoded.new_zeros(visible.shape).masked_fill(~visible, torch.finfo(encoded.dtype).min)
    logits: Tensor = model(
        encoder_outputs=(encoded,),
        decoder_input_ids=ids.flatten(1),
        decoder_attention_mask=mask.expand(len(encoded), 1, -1, -1),
        use_cache=False,
    ).logits
    return logits.unflatten(1, (most, length))[:, :, -1][here]


def network(config: TigerConfig, ids: SemanticIds) -> T5ForConditionalGeneration:
    """A fresh network for these codes, drawn from the global random state."""
    shape = T5Config(
        vocab_size=1 + ids.size * ids.codes.shape[1],
        d_model=config.width,
        d_kv=config.head_width,
        d_ff=config.inner_width,
        num_layers=config.layers,
        num_decoder_layers=config.layers,
        num_heads=config.heads,
        dropout_rate=config.dropout,
        pad_token_id=START,
        eos_token_id=START,
    )
    return T5ForConditionalGeneration(shape)
