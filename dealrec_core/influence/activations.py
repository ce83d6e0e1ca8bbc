"""One linear layer with its activations stored: curvature products and scores without running the network again.

A linear layer z = W a + b that is called with inputs a_t (one call per position, or several) contributes

    ∇_W L(s) = Σ_t g_t a_tᵀ,   ∇_b L(s) = Σ_t g_t          g_t = ∂L(s)/∂z_t

so that with a and g stored all scores are one matrix product: ∇L(s)ᵀq = Σ_t g_tᵀ (Q a_t + q_b). The Gauss-Newton product
needs the derivative of the network's output by z in both directions. Its graph from z on is stored for each batch, with
the graph of its backward pass: differentiating that pass once more is the derivative along a direction (the "double
backward trick"). The network before the layer never runs again.

Memory grows with the samples, so it is bounded in bytes: operators.py computes the batches beyond the bound.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from dealrec_core.influence import operators
from dealrec_core.influence.drawn import Drawn
from dealrec_core.influence.operators import Problem
from dealrec_core.influence.parameters import call
from dealrec_core.samples.sequences import Sequences

_OfLoss = Literal["weights", "slopes", "drawn"]
"""Parts of the loss that are stored: its curvature and slopes, slopes alone, or nothing."""


@dataclass(frozen=True)
class Batch:
    """The layer within one batch; B samples, D_in and D_out the layer's widths."""

    rows: np.ndarray
    """Places (B,) of its samples."""
    targets: Tensor
    inputs: list[Tensor]
    """a: one (B, …, D_in) per call of the layer."""
    shifts: list[Tensor]
    """Zeros (B, …, D_out) added to the layer's outputs: the leaves of the graphs below."""
    slopes: list[Tensor]
    """g: derivative of the loss by the layer's outputs, shaped like the shifts; empty where outputs are drawn."""
    state: Tensor
    """(B, D), with its graph back to the shifts."""
    probe: Tensor
    """Any cotangent of the state; `pulled` is linear in it."""
    pulled: list[Tensor]
    """Jᵀ probe, with its graph."""
    weights: Tensor | None
    """The loss's curvature by the logits (B, width), where all samples' together take at most half of the bound."""


@dataclass(frozen=True)
class Activations:
    """A layer's activations over some samples."""

    problem: Problem
    samples: Sequences
    table: Tensor
    batches: list[Batch]
    rest: np.ndarray
    """Places of the samples beyond the bound on memory."""
    size_bytes: int
    drawn: Drawn | None = None
    """Outputs that stand for the loss's curvature; with them there are products, and no gradients."""


@dataclass
class _Tape:
    """Inputs of the layer in one forward pass, and the shifts of its outputs."""

    inputs: list[Tensor] = field(default_factory=list)
    shifts: list[Tensor] = field(default_factory=list)

    def record(self, module: nn.Linear, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
        exact = module.weight.dtype
        shift = torch.zeros_like(output, dtype=exact).requires_grad_(True)
        self.inputs.append(arguments[0].detach().to(exact))
        self.shifts.append(shift)
        return output + shift


def layer_of(problem: Problem) -> nn.Linear | None:
    """The one linear layer that the chosen weights are, or None."""
    model = problem.last.model
    owners = {name.rpartition(".")[0] for name in problem.parameters.values}
    module = model.get_submodule(owners.pop()) if len(owners) == 1 else None
    return module if isinstance(module, nn.Linear) else None


def store(problem: Problem, samples: Sequences, *, most_bytes: int, drawn: Drawn | None = None) -> Activations | None:
    """The activations of the problem's layer for as many batches as fit into `most_bytes`.

    None where the chosen weights are not one linear layer, or where the item table depends on them.
    """
    layer = layer_of(problem)
    table = call(problem.table, problem.parameters.values)
    if layer is None or table.requires_grad:
        return None
    fits = len(samples) * problem.loss.width * table.element_size() <= most_bytes // 2
    of_loss: _OfLoss = "drawn" if drawn is not None else "weights" if fits else "slopes"
    stored: list[Batch] = []
    rest: list[np.ndarray] = []
    size = 0
    for rows, histories, targets in operators.batches(problem, samples):
        if size >= most_bytes:
            rest.append(rows)
            continue
        counted = _Counter()
        with torch.autograd.graph.saved_tensors_hooks(counted.count, lambda tensor: tensor):
            batch = _batch(problem, layer, table, rows, histories, targets, of_loss=of_loss)
        weights = [] if batch.weights is None else [batch.weights]
        size += counted.size_bytes + sum(part.nbytes for part in (*batch.inputs, *batch.slopes, *weights))
        stored.append(batch)
    return Activations(problem, samples, table, stored, np.concatenate([np.empty(0, np.int64), *rest]), size, drawn)


def gauss_newton(stored: Activations, direction: Tensor) -> Tensor:
    """(1/N) Σ Jᵀ B J u (P,); same contract as `operators.gauss_newton`."""
    along = stored.problem.parameters.split(direction)
    total = {name: torch.zeros_like(value) for name, value in along.items()}
    for batch in stored.batches:
        moved = [_moved(inputs, along) for inputs in batch.inputs]
        (state_dot,) = torch.autograd.grad(batch.pulled, batch.probe, moved, retain_graph=True)
        state = batch.state.detach()
        if stored.drawn is not None:
            curved = stored.drawn.gauss_newton(batch.rows, state, stored.table, state_dot=state_dot, table_dot=None)
        else:
            curved = stored.problem.loss.gauss_newton(
                state, stored.table, batch.targets, state_dot=state_dot, table_dot=None, weights=batch.weights
            )
        slopes = torch.autograd.grad(batch.state, batch.shifts, curved, retain_graph=True)
        _add_outer(total, batch.inputs, slopes)
    mean = stored.problem.parameters.flat(list(total.values())) / len(stored.samples)
    if len(stored.rest):
        drawn = None if stored.drawn is None else stored.drawn.take(stored.rest)
        others = operators.gauss_newton(stored.problem, stored.samples.take(stored.rest), direction, drawn=drawn)
        mean = mean + others * (len(stored.rest) / len(stored.samples))
    return mean


def directional(stored: Activations, direction: Tensor) -> np.ndarray:
    """∇L(s)ᵀu of every sample, float64 (N,).

    Raises:
        NotFinite: a derivative is NaN or infinite; the message names its sample.
    """
    along = stored.problem.parameters.split(direction)
    derivatives = np.empty(len(stored.samples))
    for batch in stored.batches:
        parts = [
            (slope * _moved(inputs, along)).flatten(1).sum(1)
            for inputs, slope in zip(batch.inputs, batch.slopes, strict=True)
        ]
        derivatives[batch.rows] = torch.stack(parts).sum(0).double().cpu().numpy()
    if len(stored.rest):
        derivatives[stored.rest] = operators.directional(stored.problem, stored.samples.take(stored.rest), direction)
    operators.check_samples(derivatives)
    return derivatives


class _Counter:
    """Counts the bytes of the tensors that graphs hold; a tensor that is held twice counts once."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._seen: set[int] = set()

    def count(self, tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in self._seen:
            self._seen.add(place)
            self.size_bytes += tensor.untyped_storage().nbytes()
        return tensor


def _batch(
    problem: Problem,
    layer: nn.Linear,
    table: Tensor,
    rows: np.ndarray,
    histories: Tensor,
    targets: Tensor,
    *,
    of_loss: _OfLoss,
) -> Batch:
    tape = _Tape()
    hook = layer.register_forward_hook(tape.record)
    try:
        # The weights themselves are constants here: only the shifts are differentiated.
        state = call(problem.last, _constants(problem), [histories], table)
    finally:
        hook.remove()
    probe = torch.zeros_like(state).requires_grad_(True)
    pulled = torch.autograd.grad(state, tape.shifts, probe, create_graph=True)
    slopes: Iterable[Tensor] = ()
    weights = None
    if of_loss == "weights":
        by_state, weights = problem.loss.linearised(state.detach(), table, targets)
    elif of_loss == "slopes":
        by_state = problem.loss.gradient(state.detach(), table, targets)
    if of_loss != "drawn":
        slopes = torch.autograd.grad(state, tape.shifts, by_state, retain_graph=True)
    return Batch(rows, targets, tape.inputs, tape.shifts, list(slopes), state, probe, list(pulled), weights)


def _constants(problem: Problem) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in problem.parameters.values.items()}


def _moved(inputs: Tensor, along: dict[str, Tensor]) -> Tensor:
    """Derivative of the layer's outputs along the direction."""
    parts = [inputs @ value.T if value.ndim == 2 else value for value in along.values()]
    whole = sum(parts[1:], parts[0])
    return whole if any(value.ndim == 2 for value in along.values()) else whole.expand(*inputs.shape[:-1], -1)


def _add_outer(total: dict[str, Tensor], inputs: Iterable[Tensor], slopes: Iterable[Tensor]) -> None:
    for values_in, slope in zip(inputs, slopes, strict=True):
        flat = slope.flatten(0, -2)
        for value in total.values():
            value += flat.T @ values_in.flatten(0, -2) if value.ndim == 2 else flat.sum(0)
