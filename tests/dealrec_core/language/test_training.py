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
    names = ("s0", "s1", "s2", "s3")

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


def test_a_training_that_is_to_stop_ends_there_and_keeps_its_last_epoch_whatever_the_validation_says() -> None:
    marks = [(1.0, 0.9), (1.0, 0.1), (1.0, 0.0)]
    result = trained(Slope(marks), stop=2, patience=1)
    assert (result.best_epoch, result.steps) == (2, 4)
    assert result.model.weight.item() == pytest.approx(-0.4)  # four steps of 0.1
    falling = trained(Slope(marks), stop=2, falls=True)  # the rate falls over the four epochs of the recipe
    assert falling.model.weight.item() == pytest.approx(
        -0.1 * sum(0.5 * (1 + math.cos(math.pi * step / 8)) for step in range(4)), abs=1e-6
    )


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
    with pytest.raises(NotFinite, match=r"the training loss is nan at step 0, samples s0, s1; lower x\.rate \(0\.1\)"):
        trained(Slope([(1.0, 1.0)], loss=float("nan")))
    with pytest.raises(NotFinite, match=r"validation gives nan at step 0; lower x\.rate"):
        trained(Slope([(1.0, float("nan"))]))


class Spoilt(Slope):
    """A loss of 1 whose gradient is NaN in the second epoch."""

    def losses(self, batch: np.ndarray, step: int) -> Iterator[Tensor]:
        for loss in super().losses(batch, step):
            weight = self.model.weight.sum()
            zero = weight - weight.detach()
            yield (
                loss + 0 * zero.sqrt() if step == 2 else loss
            )  # the root has an infinite slope at 0, and 0 times it is NaN


def test_a_gradient_that_is_not_finite_reaches_no_checkpoint(tmp_path: Path) -> None:
    marks = [(1.0, float(epoch)) for epoch in range(5)]
    with pytest.raises(NotFinite, match=r"the norm of the gradient is nan at step 2, samples s0, s1; lower x\.rate"):
        trained(Spoilt(marks), tmp_path)
    healed = trained(Slope(marks[2:]), tmp_path)
    assert (healed.resumed_at, healed.model.weight.item()) == (2, pytest.approx(-0.8))


class Large(Slope):
    """A batch of more than one sample does not fit the memory."""

    def __init__(self, error: Exception) -> None:
        super().__init__([(1.0, float(epoch)) for epoch in range(5)])
        self.error, self.refused = error, 0

    def losses(self, batch: np.ndarray, step: int) -> Iterator[Tensor]:
        if len(batch) > 1:
            self.refused += 1
            raise self.error
        return super().losses(batch, step)


CPU_FULL = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried 8 bytes"
)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), CPU_FULL], ids=repr)
def test_a_batch_that_does_not_fit_is_computed_in_parts_as_one_step(error: Exception) -> None:
    learner = Large(error)
    result = trained(learner)
    whole = trained(Slope([(1.0, float(epoch)) for epoch in range(5)]))
    assert (result.losses, result.steps, learner.refused) == (whole.losses, whole.steps, 1)
    assert torch.equal(result.model.weight, whole.model.weight)


def test_another_error_is_not_taken_for_a_lack_of_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"):
        trained(Large(RuntimeError("shapes differ")))
