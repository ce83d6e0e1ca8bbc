"""Influence for a torch module of one's own, with a loss of its own: a ranking, rating or click model.

    v = (1/m) Σ ∇L(r)            over the risk samples r
    q = (G + dI)⁻¹ v             G = (1/n) Σ Jᵀ B J over the train samples s
    I(s) = (1/n) ∇L(s)ᵀ q        for every train sample

J is the derivative of the outputs by the weights and B that of the loss by the outputs, twice; both come from torch, so
nothing has to be written out. For the networks of `surrogate`, `scores.score` gives the same numbers in less time.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from dealrec_core.errors import DataError, NotFinite, SettingsError
from dealrec_core.influence import inverse, kernels
from dealrec_core.influence.inverse import Damping, Solution
from dealrec_core.influence.parameters import Parameters, call, choose
from dealrec_core.influence.scores import InfluenceResult, result_of
from dealrec_core.settings.influence import InfluenceConfig

USED = {"parameters", "solver", "damping", "damping_rule", "tolerance", "most_steps"}
"""Settings that apply to any module."""
SOLVERS = ("cg", "exact", "identity")


class SampleLoss(Protocol):
    """Two functions that `score_module` calls: one computes a model's outputs for a batch, the other the loss of each sample.

    A batch is whatever these two functions understand, on the model's device: a tensor, a tuple or a dictionary of tensors.
    """

    def outputs(self, model: nn.Module, batch: Any) -> Tensor:
        """Outputs (B, ...) of the model, one row per sample, differentiable in its weights."""
        ...

    def losses(self, outputs: Tensor, batch: Any) -> Tensor:
        """Loss (B,) of each sample from its own row of outputs, convex in it: cross-entropy, squared or logistic loss."""
        ...


def score_module(
    model: nn.Module,
    loss: SampleLoss,
    train: Sequence[Any],
    risk: Sequence[Any],
    *,
    config: InfluenceConfig | None = None,
) -> InfluenceResult:
    """Influence of every train sample on the mean loss of the risk samples, in the order of the batches.

    train, risk: batches; they are read several times. The model is copied and stays as it is; dropout is off. Attention runs
    by its plain formula. Only the settings in `USED` apply.

    Raises:
        DataError: there are no batches, or `outputs` and `losses` do not give one row per sample.
        SettingsError: a setting that does not apply to a module, or no such layer.
        NotConverged: the residual stayed above the tolerance.
        NotFinite: a NaN or infinity in a gradient, product or score.
        NumericsError: the risk has no gradient, or the loss is not convex in the outputs.

    Three ratings by one weight w = 1. The first sample says w = 2, as the risk does, so the risk would rise most without it:

    >>> class Rating:
    ...     def outputs(self, model, batch):
    ...         return model(batch[0])
    ...     def losses(self, outputs, batch):
    ...         return (outputs[:, 0] - batch[1]) ** 2
    >>> model = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.ones_(model.weight)
    >>> train = [(torch.ones(3, 1), torch.tensor([2.0, 1.0, 0.0]))]
    >>> risk = [(torch.ones(1, 1), torch.tensor([2.0]))]
    >>> score_module(model, Rating(), train, risk).scores.argsort()[::-1].tolist()
    [0, 1, 2]
    """
    config = config or InfluenceConfig()
    _check(config)
    with kernels.differentiable():
        problem = _problem(model, loss, config.parameters)
        counts = [len(_checked(problem, batch)[1]) for batch in train]
        if not counts or not risk:
            raise DataError(f"{len(counts)} train batches and {len(risk)} risk batches; give at least one of each")
        v, risk_count = gradient(problem, risk)
        solution = _solved(Curvature(problem, train, sum(counts)), v, config)
        scores = directional(problem, train, solution.q) / sum(counts)
    return result_of(scores, solution, v, risk_count=risk_count, carried=None)


@dataclass(frozen=True)
class Problem:
    """A copy of the model, its loss and the weights that are differentiated."""

    outputs: nn.Module
    loss: SampleLoss
    parameters: Parameters


@dataclass(frozen=True)
class Curvature:
    """The Gauss-Newton matrix (P, P) of the mean loss: symmetric, positive semidefinite, never formed."""

    problem: Problem
    batches: Sequence[Any]
    count: int
    """Number of samples in all batches."""

    def __matmul__(self, direction: Tensor) -> Tensor:
        """G u (P,): (1/n) Σ Jᵀ B J u."""
        total = torch.zeros_like(direction)
        leaves = list(self.problem.parameters.values.values())
        for batch in self.batches:
            outputs, moved = _moved(self.problem, batch, direction)
            leaf = outputs.detach().requires_grad_()
            losses = self.problem.loss.losses(leaf, batch)
            (slope,) = torch.autograd.grad(losses.sum(), leaf, create_graph=True)
            if slope.requires_grad:  # a loss that is linear in the outputs has no curvature
                (curved,) = torch.autograd.grad(slope, leaf, moved)
                parts = torch.autograd.grad(outputs, leaves, curved, allow_unused=True, materialize_grads=True)
                total += self.problem.parameters.flat(parts)
        return total / self.count


def gradient(problem: Problem, batches: Sequence[Any]) -> tuple[Tensor, int]:
    """The mean gradient (P,) of the samples' losses, and the number of samples."""
    leaves = list(problem.parameters.values.values())
    parts, count = [], 0
    for batch in batches:
        losses = _checked(problem, batch)[1]
        found = torch.autograd.grad(losses.sum(), leaves, allow_unused=True, materialize_grads=True)
        parts.append(problem.parameters.flat(found))
        count += len(losses)
    return torch.stack(parts).sum(0) / count, count


def directional(problem: Problem, batches: Sequence[Any], direction: Tensor) -> np.ndarray:
    """∇L(s)ᵀu of every sample, float64 (N,).

    Raises:
        NotFinite: a derivative is NaN or infinite.
    """
    derivatives = []
    for batch in batches:
        outputs, moved = _moved(problem, batch, direction)
        leaf = outputs.detach().requires_grad_()
        (slope,) = torch.autograd.grad(problem.loss.losses(leaf, batch).sum(), leaf)
        derivatives.append((slope * moved).flatten(1).sum(1).double().cpu().numpy())
    found = np.concatenate(derivatives)
    bad = np.flatnonzero(~np.isfinite(found))
    if len(bad):
        raise NotFinite(
            f"{len(bad)} of {len(found)} samples have a NaN or infinite gradient product, first sample {bad[0]}; check the "
            "model's weights and the sample"
        )
    return found


def _check(config: InfluenceConfig) -> None:
    others = sorted(config.model_fields_set - USED)
    if others:
        named = ", ".join(f"influence.{name}" for name in others)
        raise SettingsError(f"{named} do not apply to a module of your own; set only {', '.join(sorted(USED))}")
    if config.solver not in SOLVERS:
        raise SettingsError(f"influence.solver is '{config.solver}'; for a module choose one of {', '.join(SOLVERS)}")
    if config.parameters == "released":
        raise SettingsError("influence.parameters 'released' is for surrogates; choose all or layer:<name>")


def _problem(model: nn.Module, loss: SampleLoss, parameters: str) -> Problem:
    network = copy.deepcopy(model).eval().requires_grad_(False)
    chosen = choose(network, parameters)
    for value in chosen.values.values():
        value.requires_grad_(True)
    return Problem(_Outputs(network, loss), loss, chosen)


class _Outputs(nn.Module):
    """Computes the outputs for a batch, also with other weights through `call`."""

    def __init__(self, model: nn.Module, loss: SampleLoss) -> None:
        super().__init__()
        self.model = model
        self._loss = loss

    def forward(self, batch: Any) -> Tensor:
        """(B, ...)."""
        return self._loss.outputs(self.model, batch)


def _checked(problem: Problem, batch: Any) -> tuple[Tensor, Tensor]:
    """The outputs and the losses of a batch; DataError where they are not one row per sample."""
    outputs = problem.outputs(batch)
    losses = problem.loss.losses(outputs, batch)
    if losses.ndim != 1 or outputs.shape[:1] != losses.shape:
        shapes = f"outputs {tuple(outputs.shape)} and losses {tuple(losses.shape)}"
        raise DataError(f"a batch gave {shapes}; both need one row per sample, and losses (B,) without a mean or sum")
    return outputs, losses


def _moved(problem: Problem, batch: Any, direction: Tensor) -> tuple[Tensor, Tensor]:
    """The outputs with their graph, and their derivative along the direction."""
    along = problem.parameters.split(direction.detach())
    with forward_ad.dual_level():
        values = problem.parameters.values.items()
        duals = {name: forward_ad.make_dual(value, along[name].clone()) for name, value in values}
        outputs, moved = forward_ad.unpack_dual(call(problem.outputs, duals, batch))
        return outputs, torch.zeros_like(outputs) if moved is None else moved.detach()


def _solved(curvature: Curvature, v: Tensor, config: InfluenceConfig) -> Solution:
    if config.solver == "identity":
        return inverse.identity(v)
    damping = Damping(config.damping, config.damping_rule)
    if config.damping_rule == "trace":
        mean, _ = inverse.mean_eigenvalue(curvature, v, samples=curvature.count)
        damping = Damping(config.damping, config.damping_rule, mean)
    if config.solver == "exact":
        return inverse.exact(curvature, v, damping=damping)
    limits: dict[str, Any] = {"tolerance": config.tolerance, "most_steps": config.most_steps}
    return inverse.conjugate_gradients(curvature, v, damping=damping, **limits)
