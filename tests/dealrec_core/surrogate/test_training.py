"""A surrogate learns what is there to be learnt, keeps its best epoch, and starts warm."""

import numpy as np
import pytest
import torch

from dealrec_core.errors import DataError, NotFinite, SettingsError
from dealrec_core.samples.sequences import Sequences, joined
from dealrec_core.settings.surrogate import SurrogateConfig
from dealrec_core.surrogate import base, networks, training
from dealrec_core.surrogate.sasrec import Shape

ITEMS = 12
SMALL = SurrogateConfig(width=16, heads=2, layers=1, epochs=30, batch_tokens=64, history_length=8)


def cycle(users: int, *, start: int = 0) -> Sequences:
    """Every user walks 0, 1, 2, … around the catalogue, six items and a target."""
    first = np.arange(start, start + users)
    walks = (first[:, None] + np.arange(7)) % ITEMS
    return Sequences(walks[:, :6].ravel(), np.arange(users + 1) * 6, walks[:, 6])


@pytest.mark.parametrize("network", list(networks.NETWORKS))
def test_a_deterministic_walk_is_learnt(network: str) -> None:
    config = SMALL.model_copy(update={"network": network, "epochs": 60, "dropout": 0.1, "patience": 20})
    found = training.train(cycle(48), cycle(12), item_count=ITEMS, config=config, seed=0)
    assert found.best.ndcg > 0.9


def test_the_best_epoch_is_returned_in_eval_mode() -> None:
    found = training.train(cycle(24), cycle(6), item_count=ITEMS, config=SMALL, seed=0)
    assert found.best == max(found.history, key=lambda epoch: epoch.ndcg)
    place = training.ranks(found.model, cycle(6))
    assert np.where(place < 10, 1 / np.log2(place + 2), 0).mean() == pytest.approx(found.best.ndcg)
    assert not found.model.training


def test_training_stops_when_validation_no_longer_improves() -> None:
    config = SMALL.model_copy(update={"epochs": 200, "patience": 2})
    found = training.train(cycle(48), cycle(12), item_count=ITEMS, config=config, seed=0)
    assert found.epochs == found.best.epoch + 2 < 200


def test_every_epoch_is_told() -> None:
    told: list[tuple[int, int]] = []
    config = SMALL.model_copy(update={"epochs": 3, "patience": 3})
    training.train(
        cycle(24), cycle(6), item_count=ITEMS, config=config, seed=0, progress=lambda *part: told.append(part)
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_the_same_seed_gives_the_same_weights() -> None:
    first, second = (training.train(cycle(24), cycle(6), item_count=ITEMS, config=SMALL, seed=3) for _ in range(2))
    pairs = zip(first.model.state_dict().values(), second.model.state_dict().values(), strict=True)
    assert all(torch.equal(left, right) for left, right in pairs)


def test_a_warm_start_is_never_worse_on_validation_and_is_left_alone() -> None:
    cold = training.train(cycle(24), cycle(6), item_count=ITEMS, config=SMALL, seed=0)
    before = cold.model.items.weight.clone()
    warm = training.train(cycle(36), cycle(6), item_count=ITEMS + 2, config=SMALL, seed=1, initial=cold.model)
    assert warm.history[0].epoch == 0
    assert warm.best.ndcg >= warm.history[0].ndcg
    assert warm.model.item_count == ITEMS + 2
    assert torch.equal(cold.model.items.weight, before)


def test_a_warm_start_learns_new_samples_from_their_windows_and_as_many_others(monkeypatch) -> None:
    old, new = cycle(48), Sequences(np.array([0, 3, 1, 7, 2, 5]), np.arange(7), np.full(6, 11))
    start = training.train(old, cycle(12), item_count=ITEMS, config=SMALL, seed=0).model
    sizes = []
    monkeypatch.setattr(training, "_pass", lambda _, cut, *__, **___: sizes.append(sum(map(len, cut))))
    config = SMALL.model_copy(update={"epochs": 200, "patience": 50})
    options = {"item_count": ITEMS, "config": config, "initial": start, "new_rows": np.arange(48, 54)}
    training.train(joined(old, new), new, seed=1, **options)
    monkeypatch.undo()
    found = training.train(joined(old, new), new, seed=1, **options)
    assert set(sizes) == {12}
    assert found.history[0].ndcg < 0.5 < 0.9 < found.best.ndcg


def test_alone_what_was_left_out_is_not_learnt_from_later_histories() -> None:
    """Samples with odd targets are left out, but their steps stand in the histories of the others."""
    odd = cycle(12).targets % 2 == 1
    train, left_out = (cycle(12).take(np.flatnonzero(rows)) for rows in (~odd, odd))
    config = SMALL.model_copy(update={"epochs": 60, "patience": 60})
    windows, alone = (
        training.train(train, train, item_count=ITEMS, config=config, seed=0, alone=alone) for alone in (False, True)
    )
    assert windows.best.ndcg == alone.best.ndcg == 1.0
    assert training.ranks(windows.model, left_out).max() <= 2
    assert training.ranks(alone.model, left_out).min() >= 3


def test_sampled_training_learns_the_walk_as_well() -> None:
    config = SMALL.model_copy(update={"negatives": 6, "epochs": 60, "patience": 20})
    found = training.train(cycle(48), cycle(12), item_count=ITEMS, config=config, seed=0)
    assert found.best.ndcg > 0.9


def test_growing_keeps_the_first_rows() -> None:
    model = networks.build("sasrec", Shape(3, width=4), seed=0)
    found = base.grown(model, 5, seed=0)
    assert torch.equal(found.items.weight[:3], model.items.weight)
    with pytest.raises(DataError, match="knows 3 items, the catalogue 2"):
        base.grown(model, 2, seed=0)


def test_the_rank_counts_ties_as_half() -> None:
    model = networks.build("sasrec", Shape(5, width=4), seed=0).eval()
    with torch.no_grad():
        model.items.weight.zero_()  # all logits are equal: 4 items tie with the target
    assert training.ranks(model, Sequences(np.array([1]), np.array([0, 1]), np.array([3]))).tolist() == [2.0]


def test_an_empty_validation_slice_names_the_next_step() -> None:
    with pytest.raises(DataError, match=r"0 validation samples; .* samples.validation_fraction"):
        training.train(cycle(4), cycle(0), item_count=ITEMS, config=SMALL, seed=0)


def test_an_item_beyond_the_catalogue_is_an_error() -> None:
    with pytest.raises(DataError, match="hold item number 11, the catalogue has 5"):
        training.train(cycle(12), cycle(6), item_count=5, config=SMALL, seed=0)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(SettingsError, match=r"surrogate.width 10 is not a multiple of surrogate.heads 4"):
        networks.build("sasrec", Shape(5, width=10, heads=4), seed=0)


def test_a_gradient_that_is_not_finite_changes_no_weight_and_says_what_to_lower(monkeypatch) -> None:
    summed, calls = training._summed, []

    def spoilt(model, *rest, **options):
        calls.append(model)
        zero = model.items.weight.sum() * 0
        return summed(model, *rest, **options) + (0 * zero.sqrt() if len(calls) == 3 else 0)  # its slope is NaN

    monkeypatch.setattr(training, "_summed", spoilt)
    with pytest.raises(NotFinite, match=r"has the norm nan; lower surrogate\.learning_rate \(0\.003\)"):
        training.train(cycle(24), cycle(6), item_count=ITEMS, config=SMALL, seed=0)
    assert all(torch.isfinite(weight).all() for weight in calls[-1].parameters())


def test_a_warm_start_with_a_nan_is_refused_and_not_taken_for_the_best_one() -> None:
    model = networks.build("sasrec", Shape(ITEMS, width=16, layers=1, heads=2, history_length=8, dropout=0.0), seed=0)
    with torch.no_grad():
        model.items.weight[0] = torch.nan
    with pytest.raises(
        NotFinite, match="scores are NaN or infinite for 24 of 24 samples; remove the surrogate"
    ) as caught:
        training.train(cycle(24), cycle(6), item_count=ITEMS, config=SMALL, seed=0, initial=model)
    assert list(caught.value.rows) == list(range(24))


def test_a_batch_that_does_not_fit_the_memory_is_computed_in_parts_with_the_same_result(monkeypatch) -> None:
    config = SMALL.model_copy(update={"dropout": 0.0, "epochs": 3})
    whole = training.train(cycle(24), cycle(6), item_count=ITEMS, config=config, seed=0)
    summed, refused = training._summed, []

    def small(model, predict, batch, **options):
        if len(batch) > 2:
            refused.append(len(batch))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return summed(model, predict, batch, **options)

    monkeypatch.setattr(training, "_summed", small)
    parted = training.train(cycle(24), cycle(6), item_count=ITEMS, config=config, seed=0)
    assert refused
    for left, right in zip(whole.model.parameters(), parted.model.parameters(), strict=True):
        assert torch.allclose(left, right, atol=1e-5)
