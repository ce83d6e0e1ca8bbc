"""When a warm start is no longer enough."""

import copy

import numpy as np
import pytest
import torch

from dealrec_core.samples.sequences import Sequences
from dealrec_core.settings.surrogate import SurrogateConfig
from dealrec_core.surrogate import drift, training

ITEMS = 12
SETTINGS = {"item_count": ITEMS, "seed": 0}
SMALL = SurrogateConfig(width=16, heads=2, layers=1, epochs=12, batch_tokens=64, history_length=8, drift_tolerance=0.2)


def walks(users: int, *, step: int) -> Sequences:
    """Every user walks around the catalogue by so many items at a time, six items and a target."""
    found = (np.arange(users)[:, None] + step * np.arange(7)) % ITEMS
    return Sequences(found[:, :6].ravel(), np.arange(users + 1) * 6, found[:, 6])


@pytest.fixture(scope="module")
def earlier() -> training.Trained:
    """What was learnt while everybody walked by one item."""
    return training.train(walks(48, step=1), walks(12, step=1), config=SMALL, **SETTINGS)


def same(left: torch.nn.Module, right: torch.nn.Module) -> bool:
    pairs = zip(left.state_dict().values(), right.state_dict().values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


def follow(earlier: training.Trained, *, step: int, reference: float | None, **changes) -> drift.Followed:
    config = SMALL.model_copy(update=changes)
    slices = walks(48, step=step), walks(12, step=step)
    return drift.follow(*slices, initial=earlier.model, reference=reference, config=config, **SETTINGS)


def test_a_warm_start_that_holds_its_quality_is_kept_and_so_is_the_measure(earlier):
    found = follow(earlier, step=1, reference=earlier.best.ndcg)
    assert (found.scratch, found.reference) == (None, earlier.best.ndcg)
    assert found.lost == 1 - found.trained.best.ndcg / earlier.best.ndcg <= 0


def test_drift_forces_a_training_from_scratch_and_the_better_one_is_kept(earlier):
    stuck = copy.deepcopy(earlier.model)
    for weight in stuck.parameters():
        weight.data.zero_()  # ranks all alike, and has no gradient to learn from
    slices = walks(48, step=1), walks(12, step=1)
    found = drift.follow(*slices, initial=stuck, reference=earlier.best.ndcg, config=SMALL, **SETTINGS)
    assert found.lost == pytest.approx(1 - 1 / np.log2(2 + 5.5) / earlier.best.ndcg)  # rank 5.5 of 12 for everything
    assert found.trained is found.scratch
    assert same(found.trained.model, earlier.model)  # the same samples and seed from scratch
    assert found.reference == earlier.best.ndcg


def test_a_warm_start_that_is_better_than_one_from_scratch_is_kept_although_it_lost(earlier):
    found = follow(earlier, step=1, reference=10 * earlier.best.ndcg, learning_rate=1e-9)
    assert found.scratch is not None
    assert found.trained.best.ndcg > found.scratch.best.ndcg
    assert found.reference == found.trained.best.ndcg


def test_a_loss_within_the_tolerance_forces_nothing_but_is_remembered(earlier):
    reference = earlier.best.ndcg * 1.1
    found = follow(earlier, step=1, reference=reference, learning_rate=1e-9)
    assert (found.scratch, found.reference) == (None, reference)
    assert 0 < found.lost < 0.2
    assert follow(earlier, step=1, reference=reference * 1.2, learning_rate=1e-9).scratch is not None


def test_without_a_measure_tonight_is_the_measure(earlier):
    found = follow(earlier, step=1, reference=None)
    assert (found.lost, found.reference) == (0.0, found.trained.best.ndcg)
