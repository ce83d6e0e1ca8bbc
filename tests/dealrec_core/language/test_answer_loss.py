"""The answer's loss token by token, and how rows are put into batches."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from dealrec_core.language.answer_loss import answer_losses, by_length, length_batches
from dealrec_core.language.prompts import Prompter
from tests.dealrec_core.conftest import CPU, SeriesWorld


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


def test_batches_hold_rows_of_about_one_length() -> None:
    rows = [([0] * length, [0]) for length in (5, 2, 9, 2, 7)]
    assert [batch.tolist() for batch in by_length(rows, 2)] == [[1, 3], [0, 4], [2]]
    assert np.concatenate(by_length(rows, 3)).tolist() == [1, 3, 0, 4, 2]


def test_batches_by_tokens_hold_every_row_once_within_the_bound() -> None:
    batches = [batch.tolist() for batch in length_batches(np.array([5, 1, 3, 3, 9, 2]), 6)]
    assert batches == [[1, 5], [2, 3], [0], [4]]  # 2 x 2, 2 x 3, 1 x 5 and the 9 that fits nowhere
