"""LoRA fine-tuning (Hu et al. 2021) on a coreset; the loss counts the answer's tokens only."""

import hashlib
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dealrec_core.errors import DataError, NotFinite, SettingsError
from dealrec_core.language import checkpoints
from dealrec_core.language.answer_loss import answer_losses, by_length, length_batches, validation_loss
from dealrec_core.language.progress import Progress, silent
from dealrec_core.language.prompts import Example, Prompter, Row
from dealrec_core.settings.language import FineTuneConfig, LoraConfig, PromptConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FineTuned:
    """The tuned model and how it came about."""

    model: PeftModel
    losses: list[float]
    """Mean training loss of each epoch."""
    validation_losses: list[float]
    """Before training, then after each epoch."""
    steps: int
    tokens: int
    qualities: list[float]
    """What the best epoch was chosen by, larger is better: before training, then after each epoch."""
    best_epoch: int
    """0 when no epoch was better than the start."""
    resumed_at: int = 0
    """The step at which a checkpoint was taken up."""


def with_lora(model: PreTrainedModel, config: LoraConfig, *, seed: int) -> PeftModel:
    """The model, wrapped in a fresh adapter: A random by `seed`, B zero, so that nothing changes yet."""
    encodes = bool(getattr(model.config, "is_encoder_decoder", False))
    attention = ["q", "v"] if encodes else ["q_proj", "v_proj"]  # as T5 and as Llama, Qwen and others call them
    modules: str | list[str] = attention if config.modules == "attention" else "all-linear"
    described = PeftLoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=modules,
        task_type="SEQ_2_SEQ_LM" if encodes else "CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(model, described)


def fine_tune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    validation: Sequence[Example],
    *,
    prompt: PromptConfig,
    config: FineTuneConfig,
    seed: int,
    device: torch.device,
    judge: Callable[[PeftModel], float] | None = None,
    adapter: Path | None = None,
    checkpoint_folder: Path | None = None,
    progress: Progress = silent,
) -> FineTuned:
    """Tunes an adapter and returns its best epoch.

    Args:
        judge: quality of a model, larger is better, for instance its recall; by default minus the validation loss.
        adapter: folder of an adapter to start from (with its own LoRA settings); by default a fresh one.
        checkpoint_folder: keeps checkpoints there and goes on from the newest that was made of the same inputs. Every
            step seeds its own dropout, so that the result is the same to the bit wherever the run was killed.
        progress: is told after every step how many are done, of the most there can be.

    Raises:
        DataError: no example, or none to validate on.
        SettingsError: `adapter` does not fit the model.
        NotFinite: the loss is NaN or infinite.
    """
    if not examples or not validation:
        raise DataError(
            f"{len(examples)} examples and {len(validation)} to validate on, wanted one of each; raise coreset.ratio"
        )
    prompter = Prompter(tokenizer, prompt)
    rows = [prompter.row(example) for example in examples]
    held = [prompter.row(example) for example in validation]
    tuned = _adapted(model, adapter, config.lora, seed=seed).to(device)
    if config.gradient_checkpointing:
        tuned.enable_input_require_grads()
        tuned.gradient_checkpointing_enable()
    run = _Run(tuned, rows, held, config=config, seed=seed, device=device, judge=judge)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        resumed_at = run.resume(checkpoint_folder)
        run.finish(checkpoint_folder, progress)
    tuned.load_state_dict(run.best, strict=False)
    if config.gradient_checkpointing:
        tuned.gradient_checkpointing_disable()
    tuned.eval()
    epochs = len(run.losses)
    log.info(
        "fine-tuning: best epoch %d of %d, quality %.4f to %.4f",
        run.best_epoch,
        epochs,
        run.qualities[0],
        max(run.qualities),
    )
    return FineTuned(
        model=tuned,
        losses=run.losses,
        validation_losses=run.held_losses,
        steps=run.step,
        tokens=epochs * sum(len(prompt_ids) + len(answer) for prompt_ids, answer in rows),
        qualities=run.qualities,
        best_epoch=run.best_epoch,
        resumed_at=resumed_at,
    )


class _Run:
    """A fine-tuning under way; everything that changes while it runs is in its checkpoints."""

    def __init__(
        self,
        model: PeftModel,
        rows: list[Row],
        held: list[Row],
        *,
        config: FineTuneConfig,
        seed: int,
        device: torch.device,
        judge: Callable[[PeftModel], float] | None,
    ) -> None:
        self._model, self._rows, self._held = model, rows, held
        self._config, self._seed, self._device, self._judge = config, seed, device, judge
        self._weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self._optimiser = torch.optim.AdamW(self._weights.values(), lr=config.learning_rate, weight_decay=0.0)
        self._steps_an_epoch = math.ceil(len(rows) / config.batch_size)
        described = [config.model_dump_json(), seed, rows, held, judge is not None, checkpoints.fingerprint(model)]
        self._fingerprint = hashlib.sha256(repr(described).encode()).hexdigest()
        self.step = 0
        self.losses: list[float] = []
        self.held_losses: list[float] = []
        self.qualities: list[float] = []
        self.best: dict[str, Tensor] = {}
        self._total = 0.0  # loss of the running epoch, summed over its rows

    @property
    def best_epoch(self) -> int:
        """0 for the start; of epochs of one quality that with the lowest validation loss, of equals the first."""
        marks = list(zip(self.qualities, [-loss for loss in self.held_losses], strict=True))
        return marks.index(max(marks))

    def resume(self, folder: Path | None) -> int:
        """Takes up the newest checkpoint, if there is one; returns its step."""
        found = None if folder is None else checkpoints.newest(folder, fingerprint=self._fingerprint)
        if found is None:
            self._judge_epoch()
            return 0
        self.step = found.step
        self.losses, self.held_losses = found.facts["losses"], found.facts["held_losses"]
        self.qualities, self._total = found.facts["qualities"], found.facts["total"]
        checkpoints.restore(found, self._weights, self._optimiser)
        self.best = {name: found.tensors[f"best/{name}"].to(self._device) for name in self._weights}
        return self.step

    def finish(self, folder: Path | None, progress: Progress) -> None:
        """Steps until the last epoch, or until no epoch of the last `patience` was better."""
        plan: list[np.ndarray] = []
        while not self._over:
            epoch, place = divmod(self.step, self._steps_an_epoch)
            if place == 0 or not plan:
                plan = _plan(self._rows, self._config.batch_size, seed=self._seed + epoch + 1)
            self._take_step(plan[place])
            progress(self.step, self._config.epochs * self._steps_an_epoch)
            if self.step % self._steps_an_epoch == 0:
                self.losses.append(self._total / len(self._rows))
                self._total = 0.0
                self._judge_epoch()
            elif self.step % self._config.checkpoint_steps:
                continue
            if folder is not None:
                checkpoints.write(folder, self._checkpoint())

    @property
    def _over(self) -> bool:
        epochs = len(self.losses)
        stopped = epochs - self.best_epoch >= self._config.patience
        return epochs >= self._config.epochs or (stopped and self.step % self._steps_an_epoch == 0)

    def _take_step(self, batch: np.ndarray) -> None:
        self._model.train()
        torch.manual_seed(self._seed * 1_000_003 + self.step)
        every = self._config.epochs * self._steps_an_epoch
        for group in self._optimiser.param_groups:
            group["lr"] = self._config.learning_rate * 0.5 * (1 + math.cos(math.pi * self.step / every))
        self._optimiser.zero_grad()
        rows = [self._rows[row] for row in batch]
        lengths = np.array([len(prompt) + len(answer) for prompt, answer in rows])
        for part in length_batches(lengths, self._config.batch_tokens):
            loss = answer_losses(self._model, [rows[row] for row in part], device=self._device).sum()
            if not torch.isfinite(loss):
                raise NotFinite(
                    f"fine-tuning loss is {loss.item()} at step {self.step}; "
                    f"lower fine_tune.learning_rate ({self._config.learning_rate})"
                )
            (loss / len(rows)).backward()
            self._total += loss.item()
        torch.nn.utils.clip_grad_norm_(self._weights.values(), 1.0)
        self._optimiser.step()
        self.step += 1

    def _judge_epoch(self) -> None:
        self._model.eval()
        self.held_losses.append(validation_loss(self._model, self._held, device=self._device))
        self.qualities.append(-self.held_losses[-1] if self._judge is None else self._judge(self._model))
        if not math.isfinite(self.qualities[-1]):
            raise NotFinite(f"validation gives {self.qualities[-1]} at step {self.step}; lower fine_tune.learning_rate")
        if self.best_epoch == len(self.qualities) - 1:
            self.best = {name: weight.detach().clone() for name, weight in self._weights.items()}

    def _checkpoint(self) -> checkpoints.Checkpoint:
        tensors = checkpoints.state(self._weights, self._optimiser)
        tensors |= {f"best/{name}": weight for name, weight in self.best.items()}
        facts = {
            "fingerprint": self._fingerprint,
            "losses": self.losses,
            "held_losses": self.held_losses,
            "qualities": self.qualities,
            "total": self._total,
        }
        return checkpoints.Checkpoint(self.step, tensors, facts)


def _adapted(model: PreTrainedModel, adapter: Path | None, lora: LoraConfig, *, seed: int) -> Any:
    if adapter is None:
        return with_lora(model, lora, seed=seed)
    try:
        return PeftModel.from_pretrained(model, str(adapter), is_trainable=True)
    except (OSError, ValueError, RuntimeError) as error:
        line = str(error).splitlines()[0]
        raise SettingsError(f"adapter {adapter} cannot be loaded on this model: {line}; start from the base") from error


def _plan(rows: list[Row], size: int, *, seed: int) -> list[np.ndarray]:
    """The batches of an epoch in order: rows of about one length together, with other neighbours every epoch."""
    random = np.random.default_rng(seed)
    shuffled = random.permutation(len(rows))
    batches = [shuffled[batch] for batch in by_length([rows[row] for row in shuffled], size)]
    return [batches[place] for place in random.permutation(len(batches))]
