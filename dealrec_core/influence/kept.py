"""One linear layer with its activations kept: curvature products and scores without running the network again.

A linear layer z = W a + b that is called with inputs a_t (one call per position, or several) contributes

    ∇_W L(s) = Σ_t g_t a_tᵀ,   ∇_b L(s) = Σ_t g_t          g_t = ∂L(s)/∂z_t

so that with a and g kept all scores are one matrix product: ∇L(s)ᵀq = Σ_t g_tᵀ (Q a_t + q_b). The Gauss-Newton product
needs the derivative of the network's output by z in both directions. Its graph from z on is kept for each batch, with
the graph of its backward pass: differentiating that pass once more is the derivative along a direction (the "double
backward trick"). What stands before the layer never runs again.

What is kept grows with the samples, so it is bounded in bytes: batches beyond the bound take the way of operators.py.
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

_LossKept = Literal["weights", "slopes", "drawn"]
"""Of the loss: its curvature and slopes, slopes alone, or nothing."""


@dataclass(frozen=True)
class KeptBatch:
    """The layer within one batch; B samples, D_in and D_out the layer's widths."""

    rows: np.ndarray
    """Places (B,) of its samples."""
    targets: Tensor
    inputs: list[Tensor]
    """a: one (B, …, D_in) per call of the layer."""
    shifts: list[Tensor]
    """Zeros (B, …, D_out) added to the layer's outputs: leaves that the graphs below lead to."""
    slopes: list[Tensor]
    """g: derivative of the loss by the outputs, shaped like the shifts; none where outputs are drawn."""
    state: Tensor
    """(B, D), with its graph back to the shifts."""
    probe: Tensor
    """Any cotangent of the state; the pulled-back ones are linear in it."""
    pulled: list[Tensor]
    """Jᵀ probe, with its graph."""
    weights: Tensor | None
    """The loss's curvature by the logits (B, width), where all samples' together take at most half of the bound."""


@dataclass(frozen=True)
class Kept:
    """A layer's activations over some samples."""

    problem: Problem
    samples: Sequences
    table: Tensor
    batches: list[KeptBatch]
    rest: np.ndarray
    """Places of the samples beyond the bound."""
    size_bytes: int
    drawn: Drawn | None = None
    """Outputs in the place of the loss's curvature; then there are products alone, no gradients."""


@dataclass
class _Tape:
    """What the layer saw in one forward pass."""

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
    found = model.get_submodule(owners.pop()) if len(owners) == 1 else None
    return found if isinstance(found, nn.Linear) else None


def keep(problem: Problem, samples: Sequences, *, most_bytes: int, drawn: Drawn | None = None) -> Kept | None:
    """The activations of the problem's layer for as many batches as fit; None where its weights are not one linear
    layer, or where the item table depends on them."""
    layer = layer_of(problem)
    table = call(problem.table, problem.parameters.values)
    if layer is None or table.requires_grad:
        return None
    fits = len(samples) * problem.loss.width * table.element_size() <= most_bytes // 2
    loss: _LossKept = "drawn" if drawn is not None else "weights" if fits else "slopes"
    kept: list[KeptBatch] = []
    rest: list[np.ndarray] = []
    size = 0
    for rows, histories, targets in operators.batches(problem, samples):
        if size >= most_bytes:
            rest.append(rows)
            continue
        counted = _Counter()
        with torch.autograd.graph.saved_tensors_hooks(counted.count, lambda tensor: tensor):
            kept.append(_kept(problem, layer, table, rows, histories, targets, loss=loss))
        weights = [] if kept[-1].weights is None else [kept[-1].weights]
        size += counted.size_bytes + sum(part.nbytes for part in (*kept[-1].inputs, *kept[-1].slopes, *weights))
    return Kept(problem, samples, table, kept, np.concatenate([np.empty(0, np.int64), *rest]), size, drawn)


def gauss_newton(kept: Kept, direction: Tensor) -> Tensor:
    """(1/N) Σ Jᵀ B J u (P,), as operators.gauss_newton has it."""
    along = kept.problem.parameters.split(direction)
    total = {name: torch.zeros_like(value) for name, value in along.items()}
    for batch in kept.batches:
        moved = [_moved(inputs, along) for inputs in batch.inputs]
        (state_dot,) = torch.autograd.grad(batch.pulled, batch.probe, moved, retain_graph=True)
        state = batch.state.detach()
        if kept.drawn is not None:
            curved = kept.drawn.gauss_newton(batch.rows, state, kept.table, state_dot=state_dot, table_dot=None)
        else:
            curved = kept.problem.loss.gauss_newton(
                state, kept.table, batch.targets, state_dot=state_dot, table_dot=None, weights=batch.weights
            )
        slopes = torch.autograd.grad(batch.state, batch.shifts, curved, retain_graph=True)
        _add_outer(total, batch.inputs, slopes)
    found = kept.problem.parameters.flat(list(total.values())) / len(kept.samples)
    if len(kept.rest):
        drawn = None if kept.drawn is None else kept.drawn.take(kept.rest)
        others = operators.gauss_newton(kept.problem, kept.samples.take(kept.rest), direction, drawn=drawn)
        found = found + others * (len(kept.rest) / len(kept.samples))
    return found


def gradient(kept: Kept) -> Tensor:
    """Mean gradient (P,) of the samples' losses."""
    total = {name: torch.zeros_like(value) for name, value in kept.problem.parameters.values.items()}
    for batch in kept.batches:
        _add_outer(total, batch.inputs, batch.slopes)
    found = kept.problem.parameters.flat(list(total.values())).detach() / len(kept.samples)
    if len(kept.rest):
        others = operators.gradient(kept.problem, kept.samples.take(kept.rest))
        found = found + others * (len(kept.rest) / len(kept.samples))
    return found


def directional(kept: Kept, direction: Tensor) -> np.ndarray:
    """∇L(s)ᵀu of every sample, float64 (N,).

    Raises:
        NotFinite: a derivative is NaN or infinite; the message names its sample.
    """
    along = kept.problem.parameters.split(direction)
    found = np.empty(len(kept.samples))
    for batch in kept.batches:
        parts = [
            (slope * _moved(inputs, along)).flatten(1).sum(1)
            for inputs, slope in zip(batch.inputs, batch.slopes, strict=True)
        ]
        found[batch.rows] = torch.stack(parts).sum(0).double().cpu().numpy()
    if len(kept.rest):
        found[kept.rest] = operators.directional(kept.problem, kept.samples.take(kept.rest), direction)
    operators.check_samples(found)
    return found


class _Counter:
    """Bytes of the tensors that graphs hold on to; one that is held twice counts once."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._seen: set[int] = set()

    def count(self, tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in self._seen:
            self._seen.add(place)
            self.size_bytes += tensor.untyped_storage().nbytes()
        return tensor


def _kept(
    problem: Problem,
    layer: nn.Linear,
    table: Tensor,
    rows: np.ndarray,
    histories: Tensor,
    targets: Tensor,
    *,
    loss: _LossKept,
) -> KeptBatch:
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
    if loss == "weights":
        by_state, weights = problem.loss.linearised(state.detach(), table, targets)
    elif loss == "slopes":
        by_state = problem.loss.gradient(state.detach(), table, targets)
    if loss != "drawn":
        slopes = torch.autograd.grad(state, tape.shifts, by_state, retain_graph=True)
    return KeptBatch(rows, targets, tape.inputs, tape.shifts, list(slopes), state, probe, list(pulled), weights)


def _constants(problem: Problem) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in problem.parameters.values.items()}


def _moved(inputs: Tensor, along: dict[str, Tensor]) -> Tensor:
    """How the layer's outputs move along the direction."""
    parts = [inputs @ value.T if value.ndim == 2 else value for value in along.values()]
    whole = sum(parts[1:], parts[0])
    return whole if any(value.ndim == 2 for value in along.values()) else whole.expand(*inputs.shape[:-1], -1)


def _add_outer(total: dict[str, Tensor], inputs: Iterable[Tensor], slopes: Iterable[Tensor]) -> None:
    for arrived, slope in zip(inputs, slopes, strict=True):
        flat = slope.flatten(0, -2)
        for value in total.values():
            value += flat.T @ arrived.flatten(0, -2) if value.ndim == 2 else flat.sum(0)
