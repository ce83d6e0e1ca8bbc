"""TIGER (Rajput et al. 2023): an encoder-decoder reads the codes of a history and writes those of the next item."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import T5Config, T5ForConditionalGeneration

from dealrec_core.errors import DataError, NotFinite, SettingsError
from dealrec_core.language import checkpoints
from dealrec_core.language.fine_tuning import with_lora
from dealrec_core.language.progress import Progress, silent
from dealrec_core.recommenders.decoding import Beams, Trie, expanded, trie
from dealrec_core.recommenders.semantic_ids import SemanticIds
from dealrec_core.samples.sequences import Sequences
from dealrec_core.settings.recommenders import TigerConfig

log = logging.getLogger(__name__)

START = 0
"""Token 0 begins every answer; codes follow, each level with tokens of its own."""


@dataclass(frozen=True)
class Trained:
    """The network of the best epoch and how it came about."""

    model: T5ForConditionalGeneration
    losses: list[float]
    """Mean training loss of each epoch."""
    validation_losses: list[float]
    """Before training, then after each epoch."""


def train(
    samples: Sequences,
    validation: Sequences,
    ids: SemanticIds,
    *,
    config: TigerConfig,
    seed: int,
    device: torch.device,
    initial: T5ForConditionalGeneration | None = None,
    checkpoint_folder: Path | None = None,
    progress: Progress = silent,
) -> Trained:
    """Trains on (history, next item); items are numbered as in `ids.item_ids`.

    initial: a model of the same shape to go on from; it is changed in place. checkpoint_folder: keeps a checkpoint of
    every epoch there and goes on from the newest that was made of the same inputs, to the same bits. progress: is told
    after every epoch.

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
        run = _Run(model.to(device), samples, validation, ids, config=config, seed=seed)
        run.resume(checkpoint_folder)
        while not run.over:
            run.take_epoch()
            progress(len(run.losses), config.epochs)
            if checkpoint_folder is not None:
                checkpoints.write(checkpoint_folder, run.checkpoint())
    model.load_state_dict(run.best, strict=False)
    log.info("TIGER: best epoch %d of %d, validation loss %.3f", run.best_epoch, len(run.losses), min(run.held))
    found = model.merge_and_unload() if config.tuning == "lora" else model
    return Trained(found.requires_grad_(True).eval(), run.losses, run.held)


class _Run:
    """A training under way; everything that changes while it runs is in its checkpoints."""

    def __init__(
        self,
        model: Any,
        samples: Sequences,
        validation: Sequences,
        ids: SemanticIds,
        *,
        config: TigerConfig,
        seed: int,
    ) -> None:
        self._model, self._samples, self._validation, self._ids = model, samples, validation, ids
        self._config, self._seed = config, seed
        self._weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self._optimiser = torch.optim.AdamW(self._weights.values(), lr=config.learning_rate, weight_decay=0.01)
        self._fingerprint = self._described()
        self.losses: list[float] = []
        self.held: list[float] = []
        self.best: dict[str, Tensor] = {}

    @property
    def best_epoch(self) -> int:
        """0 when no epoch was better than the start."""
        return int(np.argmin(self.held))

    @property
    def over(self) -> bool:
        """Whether the last epoch is done, or none of the last `patience` was better."""
        epochs = len(self.losses)
        return epochs >= self._config.epochs or epochs - self.best_epoch >= self._config.patience

    def resume(self, folder: Path | None) -> None:
        """Takes up the newest checkpoint, if there is one."""
        found = None if folder is None else checkpoints.newest(folder, fingerprint=self._fingerprint)
        if found is None:
            self._judge()
            return
        self.losses, self.held = found.facts["losses"], found.facts["held"]
        checkpoints.restore(found, self._weights, self._optimiser)
        self.best = {name: found.tensors[f"best/{name}"].to(weight.device) for name, weight in self._weights.items()}

    def take_epoch(self) -> None:
        """One pass over the samples; its dropout comes from the epoch alone, so that it can be taken again."""
        seed = self._seed + len(self.losses) + 1
        torch.manual_seed(seed)
        loss = _epoch(self._model, self._samples, self._ids, self._optimiser, config=self._config, seed=seed)
        self.losses.append(loss)
        self._judge()

    def checkpoint(self) -> checkpoints.Checkpoint:
        """All that is needed to go on."""
        tensors = checkpoints.state(self._weights, self._optimiser)
        tensors |= {f"best/{name}": weight for name, weight in self.best.items()}
        facts = {"fingerprint": self._fingerprint, "losses": self.losses, "held": self.held}
        return checkpoints.Checkpoint(len(self.losses), tensors, facts)

    def _judge(self) -> None:
        self.held.append(_mean_loss(self._model, self._validation, self._ids, config=self._config))
        if self.best_epoch == len(self.held) - 1:
            self.best = {name: weight.detach().clone() for name, weight in self._weights.items()}

    def _described(self) -> str:
        found = hashlib.sha256(repr([self._config.model_dump_json(), self._seed]).encode())
        for samples in (self._samples, self._validation):
            for array in (samples.items, samples.offsets, samples.targets):
                found.update(array.tobytes())
        found.update(self._ids.codes.tobytes())
        found.update(checkpoints.fingerprint(self._model).encode())
        return found.hexdigest()


def losses(model: Any, samples: Sequences, rows: np.ndarray, ids: SemanticIds, *, history_length: int) -> Tensor:
    """Mean cross-entropy of the codes of each row's target, (B,); the rows must be of one length once they are cut."""
    device, tokens = next(model.parameters()).device, item_tokens(ids)
    items, targets = _newest(samples, rows, history_length)
    history = torch.from_numpy(tokens[items].reshape(len(rows), -1)).to(device)  # (B, L * levels)
    wanted = torch.from_numpy(tokens[targets]).to(device)  # (B, levels)
    given = functional.pad(wanted[:, :-1], (1, 0), value=START)
    logits = model(input_ids=history, decoder_input_ids=given, use_cache=False).logits
    return functional.cross_entropy(logits.float().transpose(1, 2), wanted, reduction="none").mean(1)


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

    def recommend(self, histories: Sequence[Sequence[str]], k: int) -> list[list[str]]:
        """The k most probable items for each history."""
        place = self._place
        known = [
            [place[item] for item in history if item in place][-self.config.history_length :] for history in histories
        ]
        answers = [self.popular[:k] for _ in histories]
        for length in sorted({len(items) for items in known if items}):
            rows = [row for row, items in enumerate(known) if len(items) == length]
            for start in range(0, len(rows), self.batch_size):
                part = rows[start : start + self.batch_size]
                found = self._best(np.array([known[row] for row in part]), beams=max(self.config.beams, k))
                for row, items in zip(part, found, strict=True):
                    answers[row] = [self.ids.item_ids[item] for item in items[:k]]
        return answers

    @torch.no_grad()
    def _best(self, items: np.ndarray, *, beams: int) -> list[list[int]]:
        """Item rows by beam search over the trie of codes, best first; items int64 (B, L) without padding."""
        model, tokens = self.model.eval(), self._tokens
        device = next(model.parameters()).device
        history = torch.from_numpy(tokens[items].reshape(len(items), -1)).to(device)  # (B, L * levels)
        encoded = model.get_encoder()(input_ids=history).last_hidden_state
        users = np.arange(len(items))
        found = Beams(users, np.zeros(len(items), dtype=np.int64), np.zeros(len(items)))
        written = np.full((len(items), 1), START)
        for _ in range(tokens.shape[1]):  # all codes are of one length, so all beams end together
            logits = _next_code(model, encoded, found.users, written)
            found, parents, chosen = expanded(found, np.arange(len(found.users)), logits, self._trie, beams=beams)
            written = np.concatenate([written[parents], chosen[:, None]], 1)
        return [self._trie.leaf[found.nodes[found.users == user]].tolist() for user in users]

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
    """Logits (H, vocabulary) after what each hypothesis has written, int64 (H, T); users ascend from 0, none is missing.

    The hypotheses of a user stand one after the other in one row, and none sees another: the keys and values of what the
    encoder read, encoded (B, L, D), are then computed once a user. T5 knows distances only, not where a hypothesis begins.
    """
    count, length = len(written), written.shape[1]
    number = np.arange(count) - np.searchsorted(users, users)
    most = int(number.max()) + 1
    ids = torch.full((len(encoded), most, length), START, device=encoded.device)
    here = torch.from_numpy(users).to(encoded.device), torch.from_numpy(number).to(encoded.device)
    ids[here] = torch.from_numpy(written).to(encoded.device)
    own = torch.eye(most, device=encoded.device).bool().kron(encoded.new_ones(length, length).bool().tril())
    mask = encoded.new_zeros(own.shape).masked_fill(~own, torch.finfo(encoded.dtype).min)
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


def _epoch(
    model: Any,
    samples: Sequences,
    ids: SemanticIds,
    optimiser: torch.optim.Optimizer,
    *,
    config: TigerConfig,
    seed: int,
) -> float:
    model.train()
    random = np.random.default_rng(seed)
    total = 0.0
    for rows in _plan(np.minimum(samples.lengths, config.history_length), config.batch_size, random):
        found = losses(model, samples, rows, ids, history_length=config.history_length)
        loss = found.mean()
        if not torch.isfinite(loss):
            raise NotFinite(f"TIGER's loss is {loss.item()}; lower its learning_rate ({config.learning_rate})")
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(optimiser.param_groups[0]["params"], 1.0)
        optimiser.step()
        total += float(found.detach().sum())
    return total / len(samples)


@torch.no_grad()
def _mean_loss(model: Any, samples: Sequences, ids: SemanticIds, *, config: TigerConfig) -> float:
    model.eval()
    total = 0.0
    for rows in exact_batches(samples, config, batch_tokens=16384, ids=ids):
        total += float(losses(model, samples, rows, ids, history_length=config.history_length).sum())
    return total / len(samples)


def _plan(lengths: np.ndarray, size: int, random: np.random.Generator) -> list[np.ndarray]:
    """Batches of rows of one length, in random order, with random neighbours."""
    shuffled = random.permutation(len(lengths))
    batches = []
    for length in np.unique(lengths):
        rows = shuffled[lengths[shuffled] == length]
        batches += [rows[start : start + size] for start in range(0, len(rows), size)]
    return [batches[place] for place in random.permutation(len(batches))]


def _newest(samples: Sequences, rows: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Histories (B, L) and targets (B,) of rows that are of one length once cut to the newest `length` items."""
    kept = min(length, int(samples.lengths[rows[0]]))
    flat = samples.offsets[rows + 1][:, None] - kept + np.arange(kept)
    return samples.items[flat], samples.targets[rows]
