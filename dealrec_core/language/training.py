"""One training loop for every model that is tuned: stops early, keeps the best epoch, resumes to the same bits."""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from dealrec_core.errors import NotFinite
from dealrec_core.language import checkpoints
from dealrec_core.language.memory import Parts
from dealrec_core.language.progress import Progress

log = logging.getLogger(__name__)
MEASURES = ("losses", "validation_losses", "qualities")
"""What a checkpoint holds of every epoch."""


@dataclass(frozen=True)
class Trained:
    """The model of the best epoch and how it came about."""

    model: Any
    """A PeftModel of `fine_tuning.fine_tune`, a T5ForConditionalGeneration of `tiger.train`; dropout is off."""
    losses: list[float]
    """Mean training loss of each epoch."""
    validation_losses: list[float]
    """Before training, then after each epoch."""
    qualities: list[float]
    """The measure that chose the best epoch, larger is better: before training, then after each epoch."""
    best_epoch: int
    """0 when no epoch was better than the start."""
    steps: int
    tokens: int
    """Tokens of all epochs, prompts or histories and answers."""
    learning_rate: float
    """The rate of the first step."""
    resumed_at: int
    """The step from which a checkpoint was resumed, else 0."""


@dataclass(frozen=True)
class Pace:
    """The settings of the loop."""

    epochs: int
    patience: int
    """Epochs without a better one before training stops."""
    learning_rate: float
    setting: str
    """The name of the learning rate in the settings file, for messages."""
    falls: bool
    """Whether the learning rate falls to zero along a cosine over all epochs."""
    weight_decay: float
    checkpoint_steps: int | None
    """Steps between checkpoints within an epoch; None where one at the end of every epoch is enough."""
    stop: int | None = None
    """Epoch after which training ends, and which then counts as the best; None chooses by the validation."""


class Learner(Protocol):
    """A model and what it learns. All chance comes from the numbers of epochs and steps, so that both can be repeated."""

    model: Any
    """Its weights that require a gradient learn."""
    fingerprint: str
    """Identifies the inputs: a checkpoint of other inputs is not resumed."""
    samples: int
    names: Sequence[object]
    """Name of each sample in messages: its sample_id, or its place if it has none."""
    steps_an_epoch: int
    tokens: int
    """Tokens of an epoch."""

    def batches(self, epoch: int) -> list[np.ndarray]:
        """The batches of an epoch (from 0), rows of samples, in order."""

    def losses(self, batch: np.ndarray, step: int) -> Iterator[Tensor]:
        """Summed losses of the parts of a batch, each computed only when it is needed."""

    def validation(self) -> tuple[float, float]:
        """The mean validation loss, and the quality that chooses the best epoch."""


def train(learner: Learner, pace: Pace, *, checkpoint_folder: Path | None, progress: Progress) -> Trained:
    """Trains with AdamW, gradients clipped to norm 1, and returns the best epoch's model.

    checkpoint_folder: checkpoints are written there, and training continues from the newest one of these inputs, to equal bits.
    progress: called after every step with the number of steps so far and the largest possible one.

    A batch that does not fit the memory is computed in halves, quarters and so on; the step stays that of the whole batch.

    Raises:
        NotFinite: a loss, a gradient or the quality is NaN or infinite; no checkpoint holds what comes of it.
    """
    model = learner.model
    device = next(model.parameters()).device
    run = _Run(learner, pace)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        resumed_at = run.resume(checkpoint_folder)
        run.finish(checkpoint_folder, progress)
    model.load_state_dict(run.best, strict=False)
    model.eval()
    epochs = len(run.losses)
    log.info("best epoch %d of %d, quality %.4f to %.4f", run.best_epoch, epochs, run.qualities[0], max(run.qualities))
    measures, tokens = (run.losses, run.validation_losses, run.qualities), epochs * learner.tokens
    return Trained(
        model,
        *measures,
        best_epoch=run.best_epoch,
        steps=run.step,
        tokens=tokens,
        learning_rate=pace.learning_rate,
        resumed_at=resumed_at,
    )


class _Run:
    """A training under way; everything that changes while it runs is in its checkpoints."""

    def __init__(self, learner: Learner, pace: Pace) -> None:
        self._learner, self._pace = learner, pace
        self._weights = {name: weight for name, weight in learner.model.named_parameters() if weight.requires_grad}
        rate, decay = pace.learning_rate, pace.weight_decay
        self._optimiser = torch.optim.AdamW(self._weights.values(), lr=rate, weight_decay=decay)
        self.step = 0
        self.losses: list[float] = []
        self.validation_losses: list[float] = []
        self.qualities: list[float] = []
        self.best: dict[str, Tensor] = {}
        self._total = 0.0  # loss of the running epoch, summed over its samples
        self._parts = Parts()

    @property
    def best_epoch(self) -> int:
        """0 for the start; of epochs of one quality that with the lowest validation loss, of equals the first; with `stop` the last."""
        if self._pace.stop:
            return len(self.losses)
        marks = list(zip(self.qualities, [-loss for loss in self.validation_losses], strict=True))
        return marks.index(max(marks))

    def resume(self, folder: Path | None) -> int:
        """Takes up the newest checkpoint, if there is one; returns its step."""
        checkpoint = None if folder is None else checkpoints.newest(folder, fingerprint=self._learner.fingerprint)
        if checkpoint is None:
            self._validate()
            return 0
        facts = checkpoint.facts
        self.step, self._total = checkpoint.step, facts["total"]
        self.losses, self.validation_losses, self.qualities = (facts[name] for name in MEASURES)
        checkpoints.restore(checkpoint, self._weights, self._optimiser)
        best = checkpoint.tensors
        self.best = {name: best[f"best/{name}"].to(weight.device) for name, weight in self._weights.items()}
        return self.step

    def finish(self, folder: Path | None, progress: Progress) -> None:
        """Steps until the last epoch, or until no epoch of the last `patience` was better."""
        steps_an_epoch = self._learner.steps_an_epoch
        batches: list[np.ndarray] = []
        while not self._over:
            epoch, place = divmod(self.step, steps_an_epoch)
            if place == 0 or not batches:
                batches = self._learner.batches(epoch)
            self._take_step(batches[place])
            progress(self.step, self._pace.epochs * steps_an_epoch)
            if self.step % steps_an_epoch == 0:
                self.losses.append(self._total / self._learner.samples)
                self._total = 0.0
                self._validate()
            elif self._pace.checkpoint_steps is None or self.step % self._pace.checkpoint_steps:
                continue
            if folder is not None:
                checkpoints.write(folder, self._checkpoint())

    @property
    def _over(self) -> bool:
        epochs = len(self.losses)
        stopped = epochs - self.best_epoch >= self._pace.patience
        return epochs >= (self._pace.stop or self._pace.epochs) or (
            stopped and self.step % self._learner.steps_an_epoch == 0
        )

    def _take_step(self, batch: np.ndarray) -> None:
        self._learner.model.train()
        if self._pace.falls:
            steps = self._pace.epochs * self._learner.steps_an_epoch
            for group in self._optimiser.param_groups:
                group["lr"] = self._pace.learning_rate * 0.5 * (1 + math.cos(math.pi * self.step / steps))
        total = self._parts.compute(len(batch), partial(self._gradients, batch))
        norm = torch.nn.utils.clip_grad_norm_(self._weights.values(), 1.0)
        self._require_finite("norm of the gradient", norm.item(), batch)
        self._optimiser.step()
        self._total = total
        self.step += 1

    def _gradients(self, batch: np.ndarray, parts: int) -> float:
        """Adds up the gradients of a batch's mean loss, part by part; returns the epoch's loss so far."""
        self._optimiser.zero_grad()
        total = self._total
        for part in np.array_split(batch, parts):
            for loss in self._learner.losses(part, self.step):
                self._require_finite("training loss", loss.item(), part)
                (loss / len(batch)).backward()
                total += loss.item()
        return total

    def _require_finite(self, what: str, value: float, batch: np.ndarray) -> None:
        if not math.isfinite(value):
            advice = f"lower {self._pace.setting} ({self._pace.learning_rate}), or look at these samples"
            names = ", ".join(str(self._learner.names[row]) for row in batch[:8]) + (", …" if len(batch) > 8 else "")
            raise NotFinite(f"the {what} is {value} at step {self.step}, samples {names}; {advice}")

    def _validate(self) -> None:
        self._learner.model.eval()
        loss, quality = self._learner.validation()
        if not math.isfinite(quality):
            raise NotFinite(f"validation gives {quality} at step {self.step}; lower {self._pace.setting}")
        self.validation_losses.append(loss)
        self.qualities.append(quality)
        if self.best_epoch == len(self.qualities) - 1:
            self.best = {name: weight.detach().clone() for name, weight in self._weights.items()}

    def _checkpoint(self) -> checkpoints.Checkpoint:
        tensors = checkpoints.state(self._weights, self._optimiser)
        tensors |= {f"best/{name}": weight for name, weight in self.best.items()}
        facts = {"fingerprint": self._learner.fingerprint, "total": self._total}
        facts |= zip(MEASURES, (self.losses, self.validation_losses, self.qualities), strict=True)
        return checkpoints.Checkpoint(self.step, tensors, facts)
