"""LoRA fine-tuning of a language model on a coreset; the loss counts the answer's tokens only."""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from dealrec_core.errors import DataError
from dealrec_core.language import batch_tokens, checkpoints, training
from dealrec_core.language.answer_loss import answer_losses, by_length, length_batches, validation_loss
from dealrec_core.language.lora import SMALL, with_adapter, with_lora
from dealrec_core.language.progress import Progress, silent
from dealrec_core.language.prompts import Example, Prompter, Row
from dealrec_core.language.training import Pace, Trained
from dealrec_core.settings.language import FineTuneConfig

MOST_TOKENS = 16384
"""Most tokens computed at once where the settings leave it to the model and the memory."""
Quality = Callable[[PeftModel], float] | None


def fine_tune(
    model: PreTrainedModel,
    prompter: Prompter,
    examples: Sequence[Example],
    validation: Sequence[Example],
    *,
    config: FineTuneConfig,
    seed: int,
    quality: Quality = None,
    adapter: Path | None = None,
    stop: int | None = None,
    checkpoint_folder: Path | None = None,
    progress: Progress = silent,
) -> Trained:
    """Tunes an adapter on the model's device and returns its best epoch.

    quality: of a model, larger is better, for instance its recall; by default minus the validation loss. adapter: folder
    of an adapter to start from (with its own LoRA settings); by default a fresh one. stop: as for `training.Pace`.
    checkpoint_folder, progress: as for `training.train`; every step seeds its own dropout, so that a killed run ends with
    the same bits.

    Raises:
        DataError: no example, or none to validate on.
        SettingsError: `adapter` does not fit the model.
        NotFinite: the loss is NaN or infinite.
    """
    if not examples or not validation:
        counts = f"{len(examples)} examples and {len(validation)} to validate on"
        raise DataError(f"{counts}, at least one of each is needed; raise coreset.ratio")
    rows, held = ([prompter.row(example) for example in part] for part in (examples, validation))
    tuned = with_lora(model, config.lora, seed=seed) if adapter is None else with_adapter(model, adapter, learns=True)
    learner = _Learner(tuned, rows, held, config, seed, quality, [example.sample_id for example in examples])
    if config.gradient_checkpointing:
        tuned.enable_input_require_grads()
        tuned.gradient_checkpointing_enable()
    pace = replace(pace_of(config, weights=model.num_parameters()), stop=stop)
    trained = training.train(learner, pace, checkpoint_folder=checkpoint_folder, progress=progress)
    if config.gradient_checkpointing:
        tuned.gradient_checkpointing_disable()
    return trained


def pace_of(config: FineTuneConfig, *, weights: int) -> Pace:
    """The pace by the settings; what they leave open follows the number of weights of the base model.

    The rate is 1e-3 · (10⁷ / weights)^⅓, at most 1e-3: 1e-3 is what embedded models were tuned with here, and 1.1e-4 at seven
    billion weights is about the paper's. A small model trains to its last epoch, because the rate falls to the end.

    >>> [round(pace_of(FineTuneConfig(), weights=weights).learning_rate, 5) for weights in (400_000, 10**7, 10**10)]
    [0.001, 0.001, 0.0001]
    """
    rate = config.learning_rate or 1e-3 * min(1.0, (1e7 / weights) ** (1 / 3))
    return Pace(
        config.epochs,
        config.patience or (config.epochs if weights < SMALL else 2),
        rate,
        setting="fine_tune.learning_rate",
        falls=True,
        weight_decay=0.0,
        checkpoint_steps=config.checkpoint_steps,
    )


class _Learner:
    """A model with an adapter, and prompts with answers to learn (`training.Learner`)."""

    def __init__(
        self,
        model: PeftModel,
        rows: list[Row],
        held: list[Row],
        config: FineTuneConfig,
        seed: int,
        quality: Quality,
        names: list[str],
    ) -> None:
        self.model, self._rows, self._held = model, rows, held
        self._config, self._seed, self._quality = config, seed, quality
        self._device = next(model.parameters()).device
        self._batch_tokens = batch_tokens.resolve(config.batch_tokens, model, most=MOST_TOKENS)
        described = [config.model_dump_json(), seed, rows, held, quality is not None, checkpoints.fingerprint(model)]
        self.fingerprint = hashlib.sha256(repr(described).encode()).hexdigest()
        self.names: Sequence[object] = names
        self.samples, self.steps_an_epoch = len(rows), math.ceil(len(rows) / config.batch_size)
        self.tokens = sum(len(prompt) + len(answer) for prompt, answer in rows)

    def batches(self, epoch: int) -> list[np.ndarray]:
        """Rows of about one length together, with other neighbours every epoch."""
        random = np.random.default_rng(self._seed + epoch + 1)
        shuffled = random.permutation(len(self._rows))
        rows = [self._rows[row] for row in shuffled]
        batches = [shuffled[batch] for batch in by_length(rows, self._config.batch_size)]
        return [batches[place] for place in random.permutation(len(batches))]

    def losses(self, batch: np.ndarray, step: int) -> Iterator[Tensor]:
        """Summed answer losses of parts of at most `batch_tokens`; the dropout comes from the step's number alone."""
        torch.manual_seed(self._seed * 1_000_003 + step)
        rows = [self._rows[row] for row in batch]
        lengths = np.array([len(prompt) + len(answer) for prompt, answer in rows])
        for part in length_batches(lengths, self._batch_tokens):
            yield answer_losses(self.model, [rows[row] for row in part], device=self._device).sum()

    def validation(self) -> tuple[float, float]:
        """The mean answer loss of the validation examples, and the quality."""
        loss = validation_loss(self.model, self._held, device=self._device)
        return loss, -loss if self._quality is None else self._quality(self.model)
