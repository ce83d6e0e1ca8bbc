from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from dealrec_core import influence
from dealrec_core.errors import DataError, NumericsError, SettingsError
from dealrec_core.influence import InfluenceConfig, score_module
from dealrec_core.samples.sequences import Sequences
from dealrec_core.surrogate import networks
from dealrec_core.surrogate.sasrec import Shape


class Clicks:
    """Logistic loss of a click."""

    def outputs(self, model, batch):
        return model(batch[0])

    def losses(self, outputs, batch):
        return functional.softplus(-outputs[:, 0] * batch[1])


class NextItem:
    """Softmax over the catalogue, as `influence.score` has it built in."""

    def outputs(self, model, batch):
        table = model.item_table()
        return model.last(batch[0], table) @ table.T

    def losses(self, outputs, batch):
        return functional.cross_entropy(outputs, batch[1], reduction="none")


class Data(NamedTuple):
    train: list
    risk: list


@pytest.fixture
def clicks() -> Data:
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(12, 3, dtype=torch.float64, generator=random)
    signs = torch.tensor([1.0, -1.0] * 6, dtype=torch.float64)
    return Data([(inputs[:5], signs[:5]), (inputs[5:8], signs[5:8])], [(inputs[8:], signs[8:])])


def linear() -> nn.Module:
    torch.manual_seed(1)
    return nn.Linear(3, 1, bias=False).double()


def dense(model: nn.Module, data: Data, damping: float) -> np.ndarray:
    """The scores by the formula, with the matrix written out: for z = xᵀw and L = log(1 + exp(−yz))."""
    w = next(model.parameters()).detach().numpy()[0]

    def slopes(batches: list) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x = np.concatenate([inputs.numpy() for inputs, _ in batches])
        y = np.concatenate([signs.numpy() for _, signs in batches])
        p = 1 / (1 + np.exp(y * (x @ w)))
        return x, p, -(y * p)[:, None] * x

    x, p, gradients = slopes(data.train)
    G = (x * (p * (1 - p))[:, None]).T @ x / len(x)
    q = np.linalg.solve(G + damping * np.eye(3), slopes(data.risk)[2].mean(0))
    return gradients @ q / len(x)


@pytest.mark.parametrize("solver", ["cg", "exact"])
def test_the_scores_of_a_click_model_are_those_of_the_dense_formula(clicks, solver):
    config = InfluenceConfig(solver=solver, damping=0.1, damping_rule="absolute", tolerance=1e-9)
    result = score_module(linear(), Clicks(), clicks.train, clicks.risk, config=config)
    assert result.scores == pytest.approx(dense(linear(), clicks, 0.1), rel=1e-6)
    assert result.residual < 1e-8
    assert result.risk_count == 4


def test_a_next_item_model_gets_the_scores_of_the_built_in_loss():
    model = networks.build("sasrec", Shape(item_count=6, width=8, history_length=2), seed=0)
    histories, targets = np.array([[0, 1], [2, 3], [4, 5], [1, 0]]), np.array([2, 4, 1, 3])
    samples = Sequences(histories.flatten(), np.arange(0, 9, 2), targets)
    config = InfluenceConfig(damping=1e-2, damping_rule="absolute", tolerance=1e-6)
    built_in = influence.score(model, samples.take(np.arange(3)), samples.take(np.array([3])), config=config)
    x, y = torch.from_numpy(histories), torch.from_numpy(targets)
    own = score_module(model, NextItem(), [(x[:2], y[:2]), (x[2:3], y[2:3])], [(x[3:], y[3:])], config=config)
    assert own.scores == pytest.approx(built_in.scores, rel=1e-3)


class Encoder(nn.Module):
    """A transformer of torch's own layers, whose attention is fused."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1)
        self.items = nn.Embedding(5, 8)

    @property
    def item_count(self) -> int:
        return 5

    def item_table(self) -> torch.Tensor:
        return self.items.weight

    def last(self, items: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        return self.layers(functional.embedding(items, table))[:, -1]


def test_a_module_with_fused_attention_is_scored_and_torch_is_as_before():
    samples = Sequences(np.array([0, 1, 2, 3, 4, 0]), np.array([0, 2, 4, 6]), np.array([2, 4, 1]))
    risk = samples.take(np.array([0]))
    result = influence.score(Encoder(), samples, risk, config=InfluenceConfig())
    assert result.scores.argmax() == 0  # the sample that is the risk
    x, y = torch.from_numpy(samples.items).view(3, 2), torch.from_numpy(samples.targets)
    own = score_module(Encoder(), NextItem(), [(x, y)], [(x[:1], y[:1])])
    assert own.scores.argmax() == 0
    assert torch.backends.mha.get_fastpath_enabled()


def test_the_model_of_the_caller_stays_as_it_is(clicks):
    model = linear()
    model.weight.requires_grad_(False)
    before = model.weight.clone()
    score_module(model, Clicks(), clicks.train, clicks.risk)
    assert not model.weight.requires_grad
    assert torch.equal(model.weight, before)
    assert model.training


def test_a_loss_that_is_already_a_mean_is_an_error_that_shows_the_shapes(clicks):
    class Mean(Clicks):
        def losses(self, outputs, batch):
            return super().losses(outputs, batch).mean()

    with pytest.raises(DataError, match=r"outputs \(5, 1\) and losses \(\); both need one row per sample"):
        score_module(linear(), Mean(), clicks.train, clicks.risk)


def test_settings_that_do_not_apply_to_a_module_are_refused(clicks):
    for config, message in [
        (InfluenceConfig(negatives=3), "influence.negatives do not apply to a module of your own; set only damping"),
        (
            InfluenceConfig(solver="lissa"),
            "influence.solver is 'lissa'; for a module choose one of cg, exact, identity",
        ),
        (InfluenceConfig(parameters="released"), "'released' is for surrogates"),
    ]:
        with pytest.raises(SettingsError, match=message):
            score_module(linear(), Clicks(), clicks.train, clicks.risk, config=config)


def test_empty_batches_and_a_risk_without_gradient_are_errors(clicks):
    with pytest.raises(DataError, match="2 train batches and 0 risk batches; give at least one of each"):
        score_module(linear(), Clicks(), clicks.train, [])
    nothing = [(torch.zeros(1, 3, dtype=torch.float64), torch.ones(1, dtype=torch.float64))]
    with pytest.raises(NumericsError, match="the risk's gradient is exactly 0"):
        score_module(linear(), Clicks(), clicks.train, nothing)
