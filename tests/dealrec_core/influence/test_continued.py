"""What is carried from night to night equals what a computation over all of tonight's samples gives."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dealrec_core import influence
from dealrec_core.influence import carried, continued
from dealrec_core.influence.carried import Change
from dealrec_core.influence.continued import Earlier
from dealrec_core.influence.losses import Loss
from dealrec_core.influence.parameters import choose
from dealrec_core.samples.sequences import Sequences, joined
from dealrec_core.settings.influence import InfluenceConfig
from dealrec_core.surrogate import base
from tests.dealrec_core.influence.test_scores import ITEMS, model, sequences

EXACTLY = InfluenceConfig(tolerance=1e-9, most_steps=500, most_residual=0.9)
NONE = sequences(0, seed=0)


def nights(config: InfluenceConfig, *, network=None):
    """A first night of 30 samples and the second: 3 of them gone, 4 new; the risk loses 2 of 10 and wins 3."""
    network = network or model()
    first, risk = sequences(30, seed=2), sequences(10, seed=3)
    new, new_risk = sequences(4, seed=4), sequences(3, seed=5)
    train, later_risk = joined(first.take(np.arange(3, 30)), new), joined(risk.take(np.arange(2, 10)), new_risk)
    before = influence.score(network, first, risk, config=config, seed=0)
    assert before.carried is not None
    earlier = Earlier(
        model=network,
        carried=before.carried,
        scores=np.concatenate([before.scores[3:], np.full(4, np.nan)]),
        train=Change(new, first.take(np.arange(3))),
        risk=Change(new_risk, risk.take(np.arange(2))),
    )
    return network, earlier, train, later_risk


def moved():
    """A surrogate whose weights are far from those of `model()`."""
    other, random = model(), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in other.parameters():
            value.add_(torch.randn(value.shape, generator=random, dtype=torch.float64))
    return other


@pytest.mark.parametrize("loss", ["softmax", "sampled", "bce"])
@pytest.mark.parametrize("solver", ["cg", "exact"])
def test_the_carried_sums_and_residual_are_those_of_all_of_tonights_samples(loss: str, solver: str) -> None:
    config = EXACTLY.model_copy(update={"loss": loss, "negatives": 4, "solver": solver})
    network, earlier, train, risk = nights(config)
    found = continued.score_on(earlier, network, train, risk, config=config, seed=0)
    problem = influence.operators.problem(network, earlier.carried.loss, config=EXACTLY, device="cpu")
    q = earlier.carried.q
    v = influence.operators.gradient(problem, risk)
    image = influence.operators.gauss_newton(problem, train, q)
    torch.testing.assert_close(found.result.carried.v, v, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.result.carried.image, image, rtol=1e-6, atol=1e-9)
    left = image + earlier.carried.damping * q - v
    assert found.result.residual == pytest.approx((left.norm() / v.norm()).item(), rel=1e-5)


def test_a_kept_q_scores_new_samples_alone_and_gives_every_sample_its_product_with_it() -> None:
    network, earlier, train, risk = nights(EXACTLY)
    found = continued.score_on(earlier, network, train, risk, config=EXACTLY, seed=0)
    problem = influence.operators.problem(network, earlier.carried.loss, config=EXACTLY, device="cpu")
    expected = influence.operators.directional(problem, train, earlier.carried.q) / len(train)
    np.testing.assert_allclose(found.result.scores, expected, rtol=1e-9, atol=1e-15)
    assert found.scored == 4
    assert found.result.products == 0
    assert found.why.startswith("the earlier q is used again")


def test_a_corrected_q_is_the_one_that_solves_tonights_system() -> None:
    config = EXACTLY.model_copy(update={"most_residual": 0.0})
    network, earlier, train, risk = nights(config)
    found = continued.score_on(earlier, network, train, risk, config=config, seed=0)
    same_damping = config.model_copy(update={"damping": earlier.carried.damping, "damping_rule": "absolute"})
    expected = influence.score(network, train, risk, config=same_damping, seed=0)
    np.testing.assert_allclose(found.result.scores, expected.scores, rtol=0, atol=1e-7 * np.abs(expected.scores).max())
    assert found.scored == len(train)
    assert found.why.startswith("q corrected")
    assert found.result.residual <= 1e-9


def test_new_samples_are_scored_at_the_earlier_weights_however_far_the_surrogate_moved() -> None:
    network, earlier, train, risk = nights(EXACTLY)
    found = continued.score_on(earlier, moved(), train, risk, config=EXACTLY, seed=0)
    assert found.why.startswith("the earlier q is used again")
    assert torch.equal(found.model.items.weight, network.items.weight)


def test_new_items_leave_the_old_samples_with_their_old_catalogue() -> None:
    network, earlier, train, risk = nights(EXACTLY)
    tonight = base.grown(network, ITEMS + 2, seed=1).eval()
    bought = Sequences(np.array([0, ITEMS]), np.array([0, 2]), np.array([ITEMS + 1]))
    train = joined(train, bought)
    earlier = replace(
        earlier,
        scores=np.append(earlier.scores, np.nan),
        train=Change(joined(earlier.train.added, bought), earlier.train.removed),
    )
    found = continued.score_on(earlier, tonight, train, risk, config=EXACTLY, seed=0)
    assert found.why.startswith("the earlier q is used again")
    assert found.scored == 5
    # Over the old items alone the softmax is what it was; v has nothing on the new rows yet.
    old, new = (
        influence.operators.problem(each, earlier.carried.loss, config=EXACTLY, device="cpu")
        for each in (network, tonight)
    )
    before = old.parameters.split(influence.operators.gradient(old, risk))
    for name, part in new.parameters.split(found.result.carried.v).items():
        torch.testing.assert_close(part[: len(before[name])], before[name], rtol=1e-8, atol=1e-11)
        assert not part[len(before[name]) :].any()
    assert np.isfinite(found.result.scores).all()


def test_a_network_with_another_graph_is_another_network() -> None:
    network, earlier, train, risk = nights(EXACTLY)
    tonight = model()
    network.register_buffer("graph", torch.zeros(2))
    tonight.register_buffer("graph", torch.ones(2))
    found = continued.score_on(earlier, tonight, train, risk, config=EXACTLY, seed=0)
    assert found.why == "all computed: the network is another"


def test_what_is_carried_comes_back_from_disk(tmp_path) -> None:
    config = EXACTLY.model_copy(update={"loss": "sampled", "negatives": 3})
    _, earlier, _, _ = nights(config)
    carried.save(tmp_path, earlier.carried, lineage={"night": "one"})
    found, lineage = carried.load(tmp_path)
    assert lineage == {"night": "one"}
    assert found.residual == earlier.carried.residual
    assert torch.equal(found.q, earlier.carried.q)
    assert torch.equal(found.loss.negatives, earlier.carried.loss.negatives)


@pytest.mark.parametrize(
    "changes",
    [
        {"solver": "identity"},
        {"curvature": "hessian", "damping": 9.0, "damping_rule": "top"},
        {"curvature_samples": 5},
    ],
)
def test_settings_without_sums_over_all_samples_leave_nothing(changes) -> None:
    config = EXACTLY.model_copy(update=changes)
    assert influence.score(model(), sequences(20, seed=2), sequences(5, seed=3), config=config, seed=0).carried is None


def test_the_sums_of_the_objective_ranking_follow_the_targets_within_reach() -> None:
    config = EXACTLY.model_copy(update={"objective": "ranking", "reach": 3})
    network, earlier, train, risk = nights(config)
    tonight = base.grown(
        network, ITEMS + 2, seed=1
    ).eval()  # new items are not ahead of anything at the earlier weights
    found = continued.score_on(earlier, tonight, train, risk, config=config, seed=0)
    anew = influence.score(network, train, risk, config=config, seed=0)
    assert found.result.risk_count == anew.risk_count < len(risk)
    old, new = (choose(each, "all") for each in (network, tonight))
    before = old.split(anew.carried.v)
    for name, part in new.split(found.result.carried.v).items():
        torch.testing.assert_close(part[: len(before[name])], before[name], rtol=1e-8, atol=1e-11)


def test_a_risk_that_loses_every_target_within_reach_is_scored_anew() -> None:
    config = EXACTLY.model_copy(update={"objective": "ranking", "reach": 3})
    network, risk = model(), sequences(10, seed=3)
    problem = influence.operators.problem(network, Loss("softmax", None, ITEMS), config=config, device="cpu")
    ranks = influence.operators.ranks(problem, risk)
    near, far = (risk.take(np.flatnonzero(within)) for within in (ranks < 3, ranks >= 3))
    train = sequences(30, seed=2)
    before = influence.score(network, train, joined(near, far), config=config, seed=0)
    earlier = Earlier(network, before.carried, before.scores, Change(NONE, NONE), Change(NONE, near))
    found = continued.score_on(earlier, network, train, far, config=config, seed=0)
    assert found.why == "all computed: no target of the risk is within reach 3 of the earlier surrogate"
    assert found.result.risk_count == 0
