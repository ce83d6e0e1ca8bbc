"""The training loop with a model of one weight, whose every epoch can be computed by hand."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dealrec_core.errors import NotFinite
from dealrec_core.language import training
from dealrec_core.language.progress import silent
from dealrec_core.language.training import Pace, Trained

PACE = Pace(4, 2, 0.1, setting="x.rate", falls=False, weight_decay=0.0, checkpoint_steps=None)


class Slope:
    """A weight that falls by AdamW's learning rate with every step, since its gradient is always 1."""

    fingerprint, samples, steps_an_epoch, tokens = "slope", 4, 2, 10

    def __init__(self, marks: list[tuple[float, float]], *, loss: float = 1.0) -> None:
        self.model = nn.Linear(1, 1, bias=False)
        self.model.weight.data.fill_(0.0)
        self.marks, self.loss = iter(marks), loss

    def batches(self, epoch: int) -> list[np.ndarray]:
        return [np.array([0, 1]), np.array([2, 3])]

    def losses(self, batch: np.ndarray, step: int) -> Iterator[Tensor]:
        weight = self.model.weight.sum()
        yield from (weight - weight.detach() + self.loss for _ in batch)

    def validation(self) -> tuple[float, float]:
        return next(self.marks)


def trained(learner: Slope, folder: Path | None = None, **changes: object) -> Trained:
    pace = replace(PACE, **changes)  # type: ignore[arg-type]
    return training.train(learner, pace, checkpoint_folder=folder, progress=silent)


def test_the_best_epoch_is_kept_and_training_stops_when_patience_ends() -> None:
    result = trained(Slope([(1.0, 0.1), (1.0, 0.4), (1.0, 0.3), (1.0, 0.2)]))
    assert (result.best_epoch, result.steps, result.tokens) == (1, 6, 30)
    assert result.losses == [1.0, 1.0, 1.0]
    assert result.model.weight.item() == pytest.approx(-0.2)  # two steps of 0.1


def test_of_equal_epochs_that_with_the_lowest_validation_loss_is_kept_and_of_those_the_first() -> None:
    assert trained(Slope([(3.0, 0.5), (2.0, 0.5), (2.0, 0.5), (2.5, 0.5)])).best_epoch == 1


def test_a_learning_rate_that_falls_ends_at_zero_along_a_cosine() -> None:
    result = trained(Slope([(1.0, float(epoch)) for epoch in range(3)]), epochs=2, falls=True)
    rates = [0.1 * 0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(4)]
    assert result.model.weight.item() == pytest.approx(-sum(rates))


def test_a_finished_training_is_taken_up_as_it_is(tmp_path: Path) -> None:
    marks = [(1.0, float(epoch)) for epoch in range(5)]
    first = trained(Slope(marks), tmp_path)
    again = trained(Slope([]), tmp_path)  # nothing is validated again
    assert (first.resumed_at, again.resumed_at) == (0, 8)
    assert again.losses == first.losses
    assert torch.equal(again.model.weight, first.model.weight)


def test_a_loss_or_quality_that_is_not_finite_says_which_setting_to_lower() -> None:
    with pytest.raises(NotFinite, match=r"the training loss is nan at step 0; lower x\.rate \(0\.1\)"):
        trained(Slope([(1.0, 1.0)], loss=float("nan")))
    with pytest.raises(NotFinite, match=r"validation gives nan at step 0; lower x\.rate"):
        trained(Slope([(1.0, float("nan"))]))
