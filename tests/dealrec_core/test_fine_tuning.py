"""Fine-tuning: what the loss counts, that only the adapter learns, and which epoch is kept."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from dealrec_core.errors import DataError
from dealrec_core.fine_tuning import (
    FineTuneConfig,
    FineTuned,
    LoraConfig,
    answer_losses,
    by_length,
    fine_tune,
    validation_loss,
    with_lora,
)
from dealrec_core.recommenders.prompts import Prompter
from tests.dealrec_core.conftest import CPU, SeriesWorld


def _tuned(world: SeriesWorld, *, seed: int = 0, **config: object) -> FineTuned:
    model, tokenizer = world.load()
    examples = world.examples(60)
    settings = {"epochs": 2, "learning_rate": 2e-3, **config}
    return fine_tune(
        model,
        tokenizer,
        examples[:40],
        examples[40:],
        prompt=world.prompt,
        config=FineTuneConfig.model_validate(settings),
        seed=seed,
        device=CPU,
    )


def test_the_loss_is_the_mean_surprise_of_the_answer_tokens(series_world: SeriesWorld) -> None:
    model, tokenizer = series_world.load()
    prompter = Prompter(tokenizer, series_world.prompt)
    rows = [prompter.row(example) for example in series_world.examples(6)]
    with torch.no_grad():
        found = answer_losses(model, rows, device=CPU)
        for row, (prompt, answer) in enumerate(rows):
            logits = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].double()
            chances = functional.log_softmax(logits, 1)
            surprise = [-float(chances[len(prompt) - 1 + place, token]) for place, token in enumerate(answer)]
            assert float(found[row]) == pytest.approx(sum(surprise) / len(answer), rel=1e-5)


def test_the_output_layer_sees_whole_batches_again_afterwards(series_world: SeriesWorld) -> None:
    model, tokenizer = series_world.load()
    prompt, answer = Prompter(tokenizer, series_world.prompt).row(series_world.examples(1)[0])
    answer_losses(model, [(prompt, answer)], device=CPU)
    assert model(input_ids=torch.tensor([prompt, prompt])).logits.shape[:2] == (2, len(prompt))


def test_a_fresh_adapter_changes_nothing(series_world: SeriesWorld) -> None:
    model, tokenizer = series_world.load()
    rows = [Prompter(tokenizer, series_world.prompt).row(example) for example in series_world.examples(8)]
    before = validation_loss(model, rows, device=CPU)
    assert validation_loss(with_lora(model, LoraConfig(), seed=0), rows, device=CPU) == pytest.approx(before, rel=1e-6)


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
            tokenizer,
            [],
            series_world.examples(1),
            prompt=series_world.prompt,
            config=FineTuneConfig(),
            seed=0,
            device=CPU,
        )


def test_batches_hold_rows_of_about_one_length() -> None:
    rows = [([0] * length, [0]) for length in (5, 2, 9, 2, 7)]
    assert [batch.tolist() for batch in by_length(rows, 2)] == [[1, 3], [0, 4], [2]]
    assert np.concatenate(by_length(rows, 3)).tolist() == [1, 3, 0, 4, 2]
