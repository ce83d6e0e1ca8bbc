"""Fidelity is measured against refits, and where the mathematics holds the scores do predict them."""

import copy
from functools import partial

import numpy as np
import pytest
import torch

from dealrec_core import influence
from dealrec_core.errors import DataError, NotFinite
from dealrec_core.samples.sequences import Sequences
from dealrec_core.settings.influence import InfluenceConfig
from dealrec_core.study import refits
from dealrec_core.study.refits import RefitConfig
from dealrec_core.surrogate import networks
from dealrec_core.surrogate.sasrec import Shape

ITEMS = 6
CONFIG = RefitConfig(steps=150, learning_rate=3e-3, decay=3e-2)


def samples(count: int, *, seed: int) -> Sequences:
    """The next item is one higher than the last, three times in four."""
    random = np.random.default_rng(seed)
    histories = random.integers(0, ITEMS, (count, 2))
    targets = np.where(random.random(count) < 0.75, (histories[:, 1] + 1) % ITEMS, random.integers(0, ITEMS, count))
    return Sequences(histories.ravel(), np.arange(count + 1) * 2, targets)


@pytest.fixture(scope="module")
def fitted():
    start = networks.build("sasrec", Shape(ITEMS, width=4, layers=1, heads=1, history_length=2), seed=0).double()
    return refits.refit(start, samples(300, seed=0), RefitConfig(steps=1500, learning_rate=3e-2, decay=CONFIG.decay))


def test_leaving_samples_out_one_by_one_moves_the_risk_by_the_score(fitted) -> None:
    train, risk = samples(300, seed=0), samples(30, seed=1)
    # The decay is the damping of the objective's own Hessian, so nothing is left to choose: not even the scale.
    config = InfluenceConfig(damping=CONFIG.decay, damping_rule="absolute", tolerance=1e-6, most_steps=500)
    scores = influence.score(fitted, train, risk, config=config, seed=0).scores
    rows = np.arange(0, 300, 25)
    on = partial(refits.refit, fitted, config=CONFIG)
    moved = refits.leave_one_out(on, train, risk, rows=rows)
    slope, _ = np.polyfit(scores[rows], moved, 1)
    assert refits.mean_rank_correlation([(scores[rows], moved)], seed=0).mean > 0.8
    assert slope == pytest.approx(1.0, abs=0.2)


def test_a_refit_repeats_to_the_bit_and_leaves_its_start_alone(fitted) -> None:
    before = [value.clone() for value in fitted.parameters()]
    short = CONFIG.model_copy(update={"steps": 3})
    first, second = (refits.refit(fitted, samples(9, seed=0), short) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, fitted.parameters(), strict=True))


def test_at_its_optimum_the_objective_has_no_slope_left(fitted) -> None:
    start = networks.build("sasrec", Shape(ITEMS, width=4, layers=1, heads=1, history_length=2), seed=0).double()
    train = samples(300, seed=0)
    assert refits.slope_left(fitted, train, CONFIG) < 1e-2 * refits.slope_left(start, train, CONFIG)


def test_a_refit_that_ran_away_is_told(fitted) -> None:
    broken = copy.deepcopy(fitted)
    with torch.no_grad():
        broken.items.weight[0] = torch.nan
    with pytest.raises(NotFinite, match="the risk after a refit is nan; lower the learning rate"):
        refits.risk_of(broken, samples(30, seed=1))


def test_the_risk_is_the_mean_loss(fitted) -> None:
    risk = samples(5, seed=2)
    table = fitted.item_table()
    logits = torch.stack([fitted.last(x, table)[0] @ table.T for _, x, _ in risk.batches(2)])
    order = np.concatenate([rows for rows, _, _ in risk.batches(2)])
    expected = torch.nn.functional.cross_entropy(logits, torch.from_numpy(risk.targets[order])).item()
    assert refits.risk_of(fitted, risk) == pytest.approx(expected)


def test_every_half_keeps_half_the_samples() -> None:
    learnt = refits.halves(11, subsets=20, seed=0)
    assert learnt.sum(1).tolist() == [5] * 20
    assert len(np.unique(learnt, axis=0)) > 1


def test_scores_that_add_up_to_the_risk_have_an_lds_of_one() -> None:
    scores = np.random.default_rng(0).standard_normal(12)
    kept = refits.halves(12, subsets=20, seed=0)
    risks = 3.0 + (~kept) @ scores
    found = refits.mean_rank_correlation([(refits.left_out_sums(scores, kept), risks)], seed=0)
    assert (found.mean, found.low, found.high) == pytest.approx((1.0, 1.0, 1.0))
    assert refits.mean_rank_correlation([(refits.left_out_sums(-scores, kept), risks)], seed=0).mean == pytest.approx(
        -1.0
    )


def test_spearman_by_hand() -> None:
    """Ranks 0 1 2 3 and 0 2 1 3: 1 − 6 (0 + 1 + 1 + 0) / (4 · 15) = 0.8; equal values share a rank."""
    assert refits.mean_rank_correlation(
        [(np.array([1, 2, 3, 4]), np.array([1, 3, 2, 4]))], seed=0
    ).mean == pytest.approx(0.8)
    tied = refits.mean_rank_correlation([(np.array([1.0, 1.0, 2.0]), np.array([5.0, 5.0, 9.0]))], seed=0)
    assert tied.mean == pytest.approx(1.0)


def test_the_mean_over_studies_and_its_paired_difference_by_hand() -> None:
    """Correlations 0.8 and 1 have the mean 0.9; against baselines of −1 in both the difference is 1.9."""
    right = np.array([1, 3, 2, 4])
    studies = [(np.array([1, 2, 3, 4]), right), (right, right)]
    assert refits.mean_rank_correlation(studies, seed=0).mean == pytest.approx(0.9)
    worst = [-right, -right]
    assert refits.mean_rank_correlation(studies, seed=0, baselines=worst).mean == pytest.approx(1.9)
    same = refits.mean_rank_correlation(studies, seed=0, baselines=[left for left, _ in studies])
    assert (same.mean, same.low, same.high) == (0.0, 0.0, 0.0)


def test_too_few_refits_are_no_correlation() -> None:
    with pytest.raises(DataError, match="2 pairs are too few for a rank correlation, which needs 3"):
        refits.mean_rank_correlation([(np.array([1, 2]), np.array([1, 2]))], seed=0)
