"""Training a surrogate on every transition of the log, with validation, early stopping and a warm start."""

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dealrec_core.errors import DataError, NotFinite
from dealrec_core.language.memory import Parts
from dealrec_core.language.progress import Progress, silent
from dealrec_core.samples.sequences import Sequences
from dealrec_core.settings.surrogate import SurrogateConfig
from dealrec_core.surrogate import base, networks, windows
from dealrec_core.surrogate.logits import blocks
from dealrec_core.surrogate.sasrec import Shape

log = logging.getLogger(__name__)


class Epoch(NamedTuple):
    """Figures of one pass over the log."""

    epoch: int
    """Number of the pass; 0 is the warm start before any training."""
    ndcg: float
    """Validation NDCG@10 over the whole catalogue."""


@dataclass(frozen=True)
class Trained:
    """The network of the best epoch, and the epochs of its training."""

    model: Any
    """Surrogate of the best epoch, in eval mode."""
    history: list[Epoch]
    best: Epoch

    @property
    def epochs(self) -> int:
        """Passes over the log."""
        return self.history[-1].epoch


def train(
    train: Sequences,
    validation: Sequences,
    *,
    item_count: int,
    config: SurrogateConfig,
    seed: int = 0,
    device: torch.device | str = "cpu",
    initial: Any | None = None,
    new_rows: np.ndarray | None = None,
    alone: bool = False,
    progress: Progress = silent,
    after_epoch: Callable[[Any], None] | None = None,
) -> Trained:
    """Fits the network to the train samples and returns the epoch with the best validation NDCG@10.

    `train` may hold one sample per user or one per interaction: both become windows in which each transition stands
    once, earlier items of a history included. `initial` (same item numbering) is a warm start: it
    counts as epoch 0 and is grown when the catalogue is larger. `new_rows` are the places in `train` of samples that `initial` has not
    learnt: an epoch then passes over the windows that predict one of them and over as many others, not over the whole log.
    `progress` is called after every epoch, and `after_epoch` with the network as that epoch left it, better or not. `alone` makes
    each sample one prediction, at the cost of a whole history. Refits on a part of the samples need it: a sample that was left out
    still stands in the histories of later ones, and windows would predict it there.

    Raises:
        DataError: no train or no validation samples, or an item number beyond `item_count`.
        NotFinite: a gradient or a score is NaN or infinite; no weights come of it. Its `rows` are places in `train`, where known.
    """
    _check(train, validation, item_count=item_count)
    model = _start(item_count, config=config, seed=seed, initial=initial).to(device)
    parts = (windows.alone if alone else windows.windows)(train, length=config.history_length)
    predict = partial(_target, model) if alone else model.predictions
    model.read(parts)
    if new_rows is not None:
        parts = windows.around(train, new_rows, length=config.history_length, seed=seed)
    cut = [torch.from_numpy(part).to(device) for part in parts]
    validation = validation.sampled(config.validation_samples, seed=seed)
    if initial is not None:
        _require_finite(model, train)
    history = [Epoch(0, _ndcg(model, validation))] if initial is not None else []
    best, best_model = (history[0], copy.deepcopy(model)) if history else (None, model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    with torch.random.fork_rng(devices=[device] if torch.device(device).type == "cuda" else []):
        for number in range(1, config.epochs + 1):
            torch.manual_seed(seed + number)  # dropout
            _pass(model, cut, predict, optimiser=optimiser, config=config, seed=seed + number)
            history.append(Epoch(number, _ndcg(model, validation)))
            progress(number, config.epochs)
            if after_epoch is not None:
                after_epoch(model)
            if best is None or history[-1].ndcg > best.ndcg:
                best, best_model = history[-1], copy.deepcopy(model)
            elif number - best.epoch >= config.patience:
                break
    assert best is not None
    log.info("surrogate: best epoch %d of %d, NDCG@10 %.4f", best.epoch, history[-1].epoch, best.ndcg)
    return Trained(best_model.eval(), history, best)


def ranks(model: Any, samples: Sequences) -> np.ndarray:
    """Rank (N,) of each sample's target among all items, 0 = first; an item of equal score counts as half ahead."""
    places = np.empty(len(samples))
    for rows, _, logits, targets in blocks(model, samples):
        of_target = logits.gather(1, targets)
        ahead = (logits > of_target).sum(1) + ((logits == of_target).sum(1) - 1) / 2
        places[rows] = ahead.cpu().numpy()
    return places


def _target(model: Any, batch: Tensor, table: Tensor, *, seed: int) -> base.Predictions:
    """Predictions of each window's last item alone; same contract as the network's `predictions`, without use of the seed."""
    return base.Predictions(model.last(batch[:, :-1], table), batch[:, -1])


def _pass(
    model: Any,
    cut: list[Tensor],
    predict: Callable[..., base.Predictions],
    *,
    optimiser: torch.optim.Optimizer,
    config: SurrogateConfig,
    seed: int,
) -> None:
    model.train()
    parts = Parts()
    for step, batch in enumerate(_shuffled(cut, config.batch_tokens, seed=seed)):
        summed = partial(_summed, model, predict, config=config, seed=seed * 1_000_003 + step)
        parts.compute(len(batch), partial(_gradients, optimiser, summed, batch, config.batch_tokens))
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0).item()
        if not np.isfinite(norm):
            raise NotFinite(
                f"the gradient of the surrogate's training loss has the norm {norm}; lower surrogate.learning_rate "
                f"({config.learning_rate})"
            )
        optimiser.step()


def _summed(
    model: Any, predict: Callable[..., base.Predictions], batch: Tensor, *, config: SurrogateConfig, seed: int
) -> Tensor:
    """The summed loss of windows."""
    table = model.item_table()
    states, targets, beside = predict(batch, table, seed=seed)
    loss = _loss_sum(states, base.outputs(table, states), targets, negatives=config.negatives, seed=seed)
    return loss if beside is None else loss + beside


def _gradients(
    optimiser: torch.optim.Optimizer, summed: Callable[[Tensor], Tensor], batch: Tensor, batch_tokens: int, parts: int
) -> None:
    """Adds up the gradients of a batch in parts. A batch of few windows takes a small step: every prediction has one weight."""
    optimiser.zero_grad()
    for part in batch.tensor_split(parts):
        (summed(part) / batch_tokens).backward()


def unusable(model: Any, samples: Sequences) -> np.ndarray:
    """The places of the samples for which the model's scores hold a NaN or an infinity."""
    bad = [block.rows[~torch.isfinite(block.logits).all(1).cpu().numpy()] for block in blocks(model, samples)]
    return np.sort(np.concatenate([*bad, np.array([], dtype=int)])).astype(int)


def _require_finite(model: Any, samples: Sequences) -> None:
    """Raises NotFinite, with the rows, where a weight is NaN: the rank of a NaN score would look like the best one."""
    if not all(torch.isfinite(weight).all() for weight in model.parameters()):
        rows = unusable(model, samples)
        error = NotFinite(
            f"the surrogate's scores are NaN or infinite for {len(rows)} of {len(samples)} samples; remove the surrogate it started "
            "from, or lower surrogate.learning_rate"
        )
        error.rows = rows.tolist()
        raise error


def _shuffled(cut: list[Tensor], batch_tokens: int, *, seed: int) -> list[Tensor]:
    random = np.random.default_rng(seed)
    batches = []
    for part in cut:
        order = torch.from_numpy(random.permutation(len(part))).to(part.device)
        batches.extend(part[order].split(max(1, batch_tokens // (part.shape[1] - 1))))
    return [batches[place] for place in random.permutation(len(batches))]


def _loss_sum(states: Tensor, table: Tensor, targets: Tensor, *, negatives: int, seed: int) -> Tensor:
    """Summed cross-entropy, over all items or over `negatives` uniform ones that stand for the rest.

    log(V / K) is added to each sampled negative, which makes the partition sum unbiased.
    """
    if len(table) <= negatives:
        return functional.cross_entropy(states @ table.T, targets, reduction="sum")
    random = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(table), (negatives,), generator=random).to(table.device)
    of_target = (states * table[targets]).sum(1, keepdim=True)
    others = states @ table[drawn].T + np.log(len(table) / negatives)
    others = others.masked_fill(drawn == targets[:, None], -torch.inf)
    return (torch.cat([of_target, others], 1).logsumexp(1) - of_target[:, 0]).sum()


def _ndcg(model: Any, validation: Sequences) -> float:
    places = ranks(model, validation)
    return float(np.where(places < 10, 1 / np.log2(places + 2), 0.0).mean())


def _start(item_count: int, *, config: SurrogateConfig, seed: int, initial: Any | None) -> Any:
    if initial is not None:
        return base.grown(initial, item_count, seed=seed)
    sizes = config.model_dump(include=set(Shape._fields))
    return networks.build(config.network, Shape(item_count, **sizes), seed=seed)


def _check(train: Sequences, validation: Sequences, *, item_count: int) -> None:
    for name, samples in (("train", train), ("validation", validation)):
        if not len(samples):
            raise DataError(
                f"0 {name} samples; the surrogate needs at least 1: widen samples.{name}_fraction or wait for data"
            )
        highest = int(max(samples.items.max(), samples.targets.max()))
        if highest >= item_count:
            raise DataError(
                f"{name} samples hold item number {highest}, the catalogue has {item_count}; encode them again"
            )
