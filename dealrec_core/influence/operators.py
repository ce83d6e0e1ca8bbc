"""Gradients, curvature products and directional derivatives of a risk, streamed over unpadded batches.

The results are means over the samples, so `damping` does not depend on N. Cost in plain forward passes of the network: gradient
3, Gauss-Newton product 5, Hessian product 9, directional derivatives of all samples 3. Memory grows with the batch, not
with N. Sums run in the model's precision over batches in an order that only the data decides.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from dealrec_core.errors import NotFinite
from dealrec_core.influence.drawn import Drawn, places
from dealrec_core.influence.losses import Loss
from dealrec_core.influence.parameters import Parameters, States, Table, call, choose
from dealrec_core.samples.sequences import Sequences
from dealrec_core.settings.influence import InfluenceConfig
from dealrec_core.surrogate.logits import blocks


@dataclass(frozen=True)
class Problem:
    """A network, its loss and the weights that are differentiated. The caller's model never changes."""

    parameters: Parameters
    loss: Loss
    table: Table
    last: States
    device: torch.device
    batch_tokens: int


def problem(model: Any, loss: Loss, *, config: InfluenceConfig, device: torch.device | str) -> Problem:
    """The problem of that model on `device`: dropout off, only the weights of the settings differentiable."""
    network = copy.deepcopy(model).to(device).eval().requires_grad_(False)
    parameters = choose(network, config.parameters)
    for value in parameters.values.values():
        value.requires_grad_(True)
    last = States(network, config.precision)
    return Problem(parameters, loss, Table(network), last, torch.device(device), config.batch_tokens)


def shares(model: Any, samples: Sequences, *, batch_tokens: int, device: torch.device | str) -> np.ndarray:
    """Mean softmax over the samples' states of each item, float64 (V,).

    Raises:
        NotFinite: a share is NaN.
    """
    network = copy.deepcopy(model).to(device)
    total = torch.zeros(network.item_count, dtype=torch.float64, device=device)
    for block in blocks(network, samples, batch_tokens=batch_tokens):
        total += block.logits.softmax(1).double().sum(0)
    if not torch.isfinite(total).all():
        raise NotFinite(
            "the surrogate's shares of the items are NaN or infinite; check the surrogate's weights or retrain it with a "
            "lower surrogate.learning_rate"
        )
    return (total / len(samples)).cpu().numpy()


def gradient(problem: Problem, samples: Sequences, *, weights: np.ndarray | None = None) -> Tensor:
    """Mean gradient (P,) of the samples' losses, each times its weight (N,) where given."""
    return _pulled_back(problem, samples, direction=None, weights=weights)


@torch.no_grad()
def ranks(problem: Problem, samples: Sequences) -> np.ndarray:
    """Number of items ahead of each sample's target, float64 (N,); costs a forward pass."""
    places = np.empty(len(samples))
    table = call(problem.table, {})
    for rows, histories, targets in groups(problem, samples):
        state = call(problem.last, {}, histories, table)
        places[rows] = problem.loss.ranks(state, table, targets).double().cpu().numpy()
    return places


def gauss_newton(problem: Problem, samples: Sequences, direction: Tensor, *, drawn: Drawn | None = None) -> Tensor:
    """(1/N) Σ Jᵀ B J u (P,): the Hessian without the network's own curvature; symmetric positive semidefinite.

    `drawn` outputs stand for B, for a fraction of the cost.
    """
    return _pulled_back(problem, samples, direction=direction.detach(), drawn=drawn)


def draw(problem: Problem, samples: Sequences, count: int) -> Drawn:
    """Draws `count` outputs of each sample that stand for all outputs in the curvature of its loss; costs a forward pass."""
    items = torch.empty((len(samples), count), dtype=torch.long, device=problem.device)
    weights = torch.empty(len(samples), device=problem.device)
    with torch.no_grad():
        table = call(problem.table, {})
        for rows, histories, targets in groups(problem, samples):
            state = call(problem.last, {}, histories, table)
            at = places(rows, count).to(problem.device)
            where = torch.from_numpy(rows).to(problem.device)
            weights = weights.to(state)
            items[where], weights[where] = problem.loss.drawn(state, table, targets, at=at)
    return Drawn(items, weights, centred=problem.loss.name != "bce")


def hessian(problem: Problem, samples: Sequences, direction: Tensor) -> Tensor:
    """(1/N) Σ ∇²L u (P,) by differentiating ∇L·u once more; symmetric, rarely positive definite."""
    total = torch.zeros_like(direction)
    values = problem.parameters.values
    leaves = tuple(values.values())
    for _, histories, targets in batches(problem, samples):
        table = call(problem.table, values)
        loss = problem.loss.values(call(problem.last, values, [histories], table), table, targets).sum()
        first = torch.autograd.grad(loss, leaves, create_graph=True, materialize_grads=True)
        along = (problem.parameters.flat(first) * direction).sum()
        second = torch.autograd.grad(along, leaves, materialize_grads=True)
        total += problem.parameters.flat(second)
    return total / len(samples)


def directional(problem: Problem, samples: Sequences, direction: Tensor) -> np.ndarray:
    """∇L(s)ᵀu of every sample, float64 (N,), by forward-mode: the derivative of L(s) along u, all samples at once.

    Raises:
        NotFinite: a derivative is NaN or infinite; the message names its sample.
    """
    derivatives = np.empty(len(samples))
    with torch.no_grad(), forward_ad.dual_level():
        duals = _duals(problem, _along(problem, direction))
        dual_table = call(problem.table, duals)
        table, table_dot = forward_ad.unpack_dual(dual_table)
        for rows, histories, targets in groups(problem, samples):
            state, state_dot = forward_ad.unpack_dual(call(problem.last, duals, histories, dual_table))
            slopes = problem.loss.tangents(state, table, targets, state_dot=state_dot, table_dot=table_dot)
            derivatives[rows] = slopes.double().cpu().numpy()
    bad = np.flatnonzero(~np.isfinite(derivatives))
    if len(bad):
        raise NotFinite(
            f"{len(bad)} of {len(derivatives)} samples have a NaN or infinite gradient product, first sample {bad[0]}; "
            "check the surrogate's weights or retrain it with a lower surrogate.learning_rate"
        )
    return derivatives


def _pulled_back(
    problem: Problem,
    samples: Sequences,
    *,
    direction: Tensor | None,
    weights: np.ndarray | None = None,
    drawn: Drawn | None = None,
) -> Tensor:
    """Mean over samples of Jᵀ c; c is the loss's gradient by the outputs or, along a direction, its curvature there."""
    values = problem.parameters.values
    leaves = tuple(values.values())
    total = [torch.zeros_like(leaf) for leaf in leaves]
    along = None if direction is None else _along(problem, direction)
    table, table_dot = _forward(problem, problem.table, along)
    # Each group sees a leaf of the rows that it reads: the table's own graph is walked once, at the end.
    outputs = table.detach()
    by_table = torch.zeros_like(outputs) if table.requires_grad else None
    for rows, histories, targets in groups(problem, samples):
        read, places = _rows_read(histories)
        inputs = outputs[read].requires_grad_(by_table is not None)
        inputs_dot = None if table_dot is None else table_dot[read]
        state, state_dot = _forward(problem, problem.last, along, places, inputs, table_dot=inputs_dot)
        if direction is None:
            of_rows = None if weights is None else torch.from_numpy(weights[rows]).to(state)
            by_state = problem.loss.gradient(state, outputs, targets, into=by_table, weights=of_rows)
        elif drawn is not None:
            by_state = drawn.gauss_newton(rows, state, outputs, state_dot=state_dot, table_dot=table_dot, into=by_table)
        else:
            by_state = problem.loss.gauss_newton(
                state, outputs, targets, state_dot=state_dot, table_dot=table_dot, into=by_table
            )
        if state.requires_grad:
            sources = leaves if by_table is None else (*leaves, inputs)
            parts = torch.autograd.grad(state, sources, by_state, allow_unused=True)
            _add(total, parts[: len(leaves)])
            if by_table is not None and parts[-1] is not None:
                by_table.index_add_(0, read, parts[-1])
    if by_table is not None:
        _add(total, torch.autograd.grad(table, leaves, by_table, allow_unused=True))
    return problem.parameters.flat(total).detach() / len(samples)


def _forward(
    problem: Problem,
    method: Table | States,
    along: dict[str, Tensor] | None,
    *arguments: Any,
    table_dot: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """The method's result, with its graph, and its derivative along the direction; the last argument may be the table.

    The dual level ends here: a backward pass inside it would differentiate itself forward as well, at twice the cost.
    """
    if along is None:
        return call(method, problem.parameters.values, *arguments), None
    with forward_ad.dual_level():
        if table_dot is not None:
            arguments = (*arguments[:-1], forward_ad.make_dual(arguments[-1], table_dot))
        answer, derivative = forward_ad.unpack_dual(call(method, _duals(problem, along), *arguments))
        return answer, None if derivative is None else derivative.detach()


def _add(total: list[Tensor], parts: tuple[Tensor | None, ...]) -> None:
    for whole, part in zip(total, parts, strict=False):
        if part is not None:
            whole += part


def _along(problem: Problem, direction: Tensor) -> dict[str, Tensor]:
    """The direction for each weight, in separate memory: `make_dual` copies a view every time."""
    return {name: part.clone() for name, part in problem.parameters.split(direction.detach()).items()}


def _duals(problem: Problem, along: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: forward_ad.make_dual(value, along[name]) for name, value in problem.parameters.values.items()}


def batches(problem: Problem, samples: Sequences) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
    """Rows, histories and targets of every batch, on the problem's device."""
    for rows, histories, targets in samples.batches(problem.batch_tokens):
        yield rows, histories.to(problem.device), targets.to(problem.device)


def groups(problem: Problem, samples: Sequences) -> Iterator[tuple[np.ndarray, list[Tensor], Tensor]]:
    """Joins batches that hold no more than `batch_tokens` items together: their rows and targets, and a list of their histories.

    The fixed cost of a step is then paid per `batch_tokens` items, not per history length.
    """
    waiting: list[tuple[np.ndarray, Tensor, Tensor]] = []
    for batch in batches(problem, samples):
        if waiting and sum(items.numel() for _, items, _ in (*waiting, batch)) > problem.batch_tokens:
            yield _group(waiting)
            waiting = []
        waiting.append(batch)
    if waiting:
        yield _group(waiting)


def _group(joined: list[tuple[np.ndarray, Tensor, Tensor]]) -> tuple[np.ndarray, list[Tensor], Tensor]:
    rows, histories, targets = zip(*joined, strict=True)
    return np.concatenate(rows), list(histories), torch.cat(targets)


def _rows_read(histories: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Distinct items of the histories, and the histories as places among these items."""
    read, places = torch.unique(torch.cat([items.flatten() for items in histories]), return_inverse=True)
    parts = places.split([items.numel() for items in histories])
    return read, [part.view_as(items) for part, items in zip(parts, histories, strict=True)]
