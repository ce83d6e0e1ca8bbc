"""Fine-tuning: what the loss counts, that only the adapter learns, and which epoch is kept."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel

from dealrec_core.errors import DataError, SettingsError
from dealrec_core.language import checkpoints, lora
from dealrec_core.language.answer_loss import validation_loss
from dealrec_core.language.fine_tuning import fine_tune, pace_of
from dealrec_core.language.prompts import Prompter
from dealrec_core.language.training import Trained
from dealrec_core.settings.language import FineTuneConfig, LoraConfig
from tests.dealrec_core.conftest import CPU, SeriesWorld


def _tuned(
    world: SeriesWorld,
    *,
    seed: int = 0,
    quality: Callable[[PeftModel], float] | None = None,
    adapter: Path | None = None,
    checkpoint_folder: Path | None = None,
    **config: object,
) -> Trained:
    model, tokenizer = world.load()
    examples = world.examples(60)
    settings = {"epochs": 2, "learning_rate": 2e-3, **config}
    return fine_tune(
        model,
        Prompter(tokenizer, world.prompt),
        examples[:40],
        examples[40:],
        config=FineTuneConfig.model_validate(settings),
        seed=seed,
        quality=quality,
        adapter=adapter,
        checkpoint_folder=checkpoint_folder,
    )


def test_only_the_adapter_learns(series_world: SeriesWorld) -> None:
    tuned = _tuned(series_world)
    base = series_world.load()[0].state_dict()
    plain = tuned.model.unload().state_dict()
    assert all(torch.equal(value, base[name]) for name, value in plain.items())


def test_the_best_epoch_is_returned(series_world: SeriesWorld) -> None:
    tuned = _tuned(series_world, epochs=4, patience=1, learning_rate=5e-2)  # far too high: it gets worse at once
    tokenizer = series_world.load()[1]
    rows = [Prompter(tokenizer, series_world.prompt).row(example) for example in series_world.examples(60)[40:]]
    assert validation_loss(tuned.model, rows, device=CPU) == pytest.approx(min(tuned.validation_losses), rel=1e-6)
    assert len(tuned.losses) < 4  # and it stopped early


def test_with_defaults_alone_a_small_base_learns_what_the_examples_teach(series_world: SeriesWorld) -> None:
    """The base answers with the next part of a series; these examples answer with the oldest title of the history."""
    examples = [replace(example, target=example.history[0]) for example in series_world.examples(60)]
    model, tokenizer = series_world.load()
    prompter = Prompter(tokenizer, series_world.prompt)
    tuned = fine_tune(model, prompter, examples, examples[:5], config=FineTuneConfig(), seed=0)
    assert tuned.losses[-1] < 0.9 * tuned.losses[0]


def test_layers_that_learn_follow_the_size_of_the_base_and_a_setting_wins(
    series_world: SeriesWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def learning(config: LoraConfig) -> set[str]:
        names = [name for name, _ in lora.with_lora(series_world.load()[0], config, seed=0).named_parameters()]
        return {name.split(".")[-4] for name in names if "lora_A" in name}

    every = {f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")}
    assert learning(LoraConfig()) == every
    monkeypatch.setattr(lora, "SMALL", 1)
    assert learning(LoraConfig()) == {"q_proj", "v_proj"}
    assert learning(LoraConfig(modules="all")) == every


def test_rate_and_patience_follow_the_size_of_the_base_and_a_setting_wins() -> None:
    small, large = (pace_of(FineTuneConfig(epochs=7), weights=weights) for weights in (4_200_000, 8 * 10**10))
    assert (small.learning_rate, small.patience) == (1e-3, 7)
    assert (large.learning_rate, large.patience) == (pytest.approx(1e-3 / 20), 2)  # 80e9 / 10e6 = 20 cubed
    told = pace_of(FineTuneConfig(learning_rate=0.5, patience=3), weights=4_200_000)
    assert (told.learning_rate, told.patience) == (0.5, 3)


def test_the_same_seed_gives_the_same_adapter(series_world: SeriesWorld) -> None:
    first, again, other = (_tuned(series_world, seed=seed) for seed in (0, 0, 1))
    assert first.losses == again.losses
    assert first.losses != other.losses


def test_steps_and_tokens_are_counted(series_world: SeriesWorld) -> None:
    tuned = _tuned(series_world, epochs=2, patience=5, batch_size=16)
    tokenizer = series_world.load()[1]
    prompter = Prompter(tokenizer, series_world.prompt)
    assert tuned.steps == 2 * 3  # 40 examples in batches of 16, twice
    assert tuned.tokens == 2 * sum(prompter.length(example) for example in series_world.examples(40))


def test_no_examples_are_refused(series_world: SeriesWorld) -> None:
    model, tokenizer = series_world.load()
    with pytest.raises(DataError, match="0 examples and 1 to validate on"):
        fine_tune(
            model,
            Prompter(tokenizer, series_world.prompt),
            [],
            series_world.examples(1),
            config=FineTuneConfig(),
            seed=0,
        )


class _Killed(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("writes", [1, 2, 4, 5])
def test_a_killed_run_goes_on_to_the_same_bits(
    series_world: SeriesWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    settings = {"epochs": 3, "patience": 3, "checkpoint_steps": 2}  # 3 steps an epoch: checkpoints at 2, 3, 4, 6, 8, 9
    whole = _tuned(series_world, **settings)
    real, left = checkpoints.write, [writes]

    def dies_after(folder: Path, checkpoint: checkpoints.Checkpoint) -> None:
        real(folder, checkpoint)
        left[0] -= 1
        if left[0] == 0:
            raise _Killed

    monkeypatch.setattr(checkpoints, "write", dies_after)
    with pytest.raises(_Killed):
        _tuned(series_world, checkpoint_folder=tmp_path, **settings)
    monkeypatch.undo()
    resumed = _tuned(series_world, checkpoint_folder=tmp_path, **settings)
    assert resumed.resumed_at == (2, 3, 4, 6, 8, 9)[writes - 1]
    assert resumed.losses == whole.losses
    assert resumed.validation_losses == whole.validation_losses
    expected = whole.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.model.state_dict().items())


def test_kill_9_loses_only_the_steps_since_the_checkpoint(series_world: SeriesWorld, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(KILLED_PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3]), "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, str(program), str(series_world.base), str(tmp_path / "checkpoints")]
    killed = subprocess.run([*arguments, "die"], env=environment, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = subprocess.run([*arguments, "go on"], env=environment, capture_output=True, text=True, check=True)
    arguments[3] = str(tmp_path / "others")
    whole = subprocess.run([*arguments, "go on"], env=environment, capture_output=True, text=True, check=True)
    assert resumed.stdout.splitlines()[0] == "resumed at 5"
    assert whole.stdout.splitlines()[0] == "resumed at 0"
    assert resumed.stdout.splitlines()[1:] == whole.stdout.splitlines()[1:]


KILLED_PROGRAM = """
import hashlib, os, pathlib, signal, sys
import torch
from dealrec_core.language import fine_tuning, language_model, training
from dealrec_core.language.prompts import Example, Prompter
from dealrec_core.settings.language import PromptConfig

base, folder, what = sys.argv[1:]
steps = 0
real = training._Run._take_step

def step(run, batch):
    real(run, batch)
    global steps
    steps += 1
    if what == "die" and steps == 6:
        os.kill(os.getpid(), signal.SIGKILL)

training._Run._take_step = step
model, tokenizer = language_model.load(base, device=torch.device("cpu"))
examples = [Example([f"Crimson Harbor {n % 4 + 1}"] * (n % 3 + 1), f"Crimson Harbor {n % 4 + 2}") for n in range(30)]
tuned = fine_tuning.fine_tune(
    model, Prompter(tokenizer, PromptConfig(items="games", item="game")), examples[:24], examples[24:],
    config=fine_tuning.FineTuneConfig(epochs=3, patience=3, batch_size=6, checkpoint_steps=5, learning_rate=1e-3),
    seed=0, checkpoint_folder=pathlib.Path(folder),
)
print("resumed at", tuned.resumed_at)
print(tuned.losses, tuned.validation_losses)
for name, weight in tuned.model.state_dict().items():
    print(name, hashlib.sha256(weight.numpy().tobytes()).hexdigest())
"""


def test_a_checkpoint_of_other_inputs_is_not_taken_up(series_world: SeriesWorld, tmp_path: Path) -> None:
    _tuned(series_world, checkpoint_folder=tmp_path)
    assert _tuned(series_world, checkpoint_folder=tmp_path).resumed_at == 6  # both epochs done: nothing left to do
    assert _tuned(series_world, checkpoint_folder=tmp_path, seed=1).resumed_at == 0


def test_steps_in_parts_give_the_same_losses(series_world: SeriesWorld) -> None:
    lora = LoraConfig(dropout=0)
    whole, parts = _tuned(series_world, lora=lora), _tuned(series_world, lora=lora, batch_tokens=100)
    np.testing.assert_allclose(parts.losses, whole.losses, rtol=1e-4)


def test_gradient_checkpointing_changes_no_loss(series_world: SeriesWorld) -> None:
    plain, checked = _tuned(series_world), _tuned(series_world, gradient_checkpointing=True)
    np.testing.assert_allclose(checked.losses, plain.losses, rtol=1e-5)


def test_the_quality_chooses_the_epoch(series_world: SeriesWorld) -> None:
    marks = iter([0.1, 0.4, 0.3, 0.2])
    tuned = _tuned(series_world, epochs=9, patience=2, quality=lambda model: next(marks))
    assert tuned.qualities == [0.1, 0.4, 0.3, 0.2]
    assert tuned.best_epoch == 1
    assert len(tuned.losses) == 3


def test_tuning_goes_on_from_an_adapter(series_world: SeriesWorld, tmp_path: Path) -> None:
    first = _tuned(series_world)
    first.model.save_pretrained(str(tmp_path))
    second = _tuned(series_world, adapter=tmp_path)
    assert second.validation_losses[0] == pytest.approx(min(first.validation_losses), rel=1e-6)


def test_an_adapter_that_does_not_fit_is_one_clear_line(series_world: SeriesWorld, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"adapter .* cannot be loaded on this model"):
        _tuned(series_world, adapter=tmp_path / "nothing")


def test_of_epochs_of_equal_quality_the_one_with_the_lowest_loss_is_kept(series_world: SeriesWorld) -> None:
    tuned = _tuned(series_world, epochs=2, quality=lambda model: 0.0)
    assert tuned.best_epoch == int(np.argmin(tuned.validation_losses)) > 0
