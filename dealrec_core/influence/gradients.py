"""First- and second-order products of a surrogate's loss, over all its parameters, batch by batch.

The loss of a sample s = (x, y) is L(s) = -log softmax(last(x) T')_y over the whole catalogue. Vectors in parameter space are
dictionaries from parameter name to tensor.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, jvp, vjp

from dealrec_core.errors import NotFinite
from dealrec_core.sequences import Sequences

Vector = dict[str, Tensor]

MOST_LOGITS = 2**22
"""Logits held at once; larger batches are cut."""


def parameters(model: Any) -> Vector:
    """The parameters of the model, detached."""
    return {name: weight.detach() for name, weight in model.named_parameters()}


def mean_gradient(model: Any, samples: Sequences, *, batch_tokens: int) -> Vector:
    """(1/n) sum of the gradients of L(s), float32 or better.

    Raises:
        NotFinite: a gradient holds NaN or infinity.
    """
    weights = parameters(model)
    total = zeros(weights)
    for histories, targets in _batches(model, samples, batch_tokens):
        losses, pull = vjp(lambda at, x=histories, y=targets: _losses(model, at, x, y), weights)
        (gradient,) = pull(torch.ones_like(losses))
        total = axpy(1.0, gradient, total)
    mean = scaled(1 / len(samples), total)
    if not math.isfinite(dot(mean, mean)):
        raise NotFinite("the risk gradient is not finite; the surrogate's weights have blown up: retrain it with a lower learning_rate")
    return mean


def gauss_newton_product(model: Any, samples: Sequences, vector: Vector, *, batch_tokens: int) -> Vector:
    """G u with G = (1/n) sum J_s' (diag(p) - p p') J_s, positive semidefinite (Martens 2010).

    J_s is the Jacobian of the logits of sample s, p their softmax: the Hessian of L without the curvature of the network.
    """
    weights = parameters(model)
    total = zeros(weights)
    for histories, _ in _batches(model, samples, batch_tokens):

        def logits(at: Vector, x: Tensor = histories) -> Tensor:
            return _logits(model, at, x)

        _, forward = jvp(logits, (weights,), (vector,))  # (B, V)
        found, pull = vjp(logits, weights)
        chance = found.softmax(1)
        curved = chance * (forward - (chance * forward).sum(1, keepdim=True))
        (product,) = pull(curved)
        total = axpy(1.0, product, total)
    return scaled(1 / len(samples), total)


def directional_derivatives(model: Any, samples: Sequences, vector: Vector, *, batch_tokens: int) -> Tensor:
    """The inner product of each sample's gradient with `vector`, float64 (N,), by one forward-mode pass: no backward at all."""
    weights = parameters(model)
    found = torch.empty(len(samples), dtype=torch.float64)
    for rows, histories, targets in samples.batches(batch_tokens):
        device = next(iter(weights.values())).device
        for part in torch.arange(len(rows)).split(_most_rows(model)):
            x, y = histories[part].to(device), targets[part].to(device)
            _, derivatives = jvp(lambda at, x=x, y=y: _losses(model, at, x, y), (weights,), (vector,))
            found[torch.from_numpy(rows)[part]] = derivatives.double().cpu()
    return found


def zeros(like: Vector) -> Vector:
    """A zero vector of that shape."""
    return {name: torch.zeros_like(part) for name, part in like.items()}


def scaled(by: float, vector: Vector) -> Vector:
    """by * vector."""
    return {name: by * part for name, part in vector.items()}


def axpy(by: float, x: Vector, y: Vector) -> Vector:
    """by * x + y."""
    return {name: torch.add(y[name], x[name], alpha=by) for name in y}


def dot(x: Vector, y: Vector) -> float:
    """Inner product, summed in float64."""
    return sum(float((x[name].double() * y[name].double()).sum()) for name in x)


def _losses(model: Any, weights: Vector, histories: Tensor, targets: Tensor) -> Tensor:
    logits = _logits(model, weights, histories)
    return logits.logsumexp(1) - logits.gather(1, targets[:, None])[:, 0]


def _logits(model: Any, weights: Vector, histories: Tensor) -> Tensor:
    return functional_call(_Logits(model), {f"model.{name}": part for name, part in weights.items()}, (histories,))


class _Logits(torch.nn.Module):
    """Lets functional_call reach `last` and `item_table` of one model."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, histories: Tensor) -> Tensor:
        table = self.model.item_table()
        return self.model.last(histories, table) @ table.T


def _batches(model: Any, samples: Sequences, batch_tokens: int) -> "list[tuple[Tensor, Tensor]]":
    device = next(model.parameters()).device
    return [
        (histories[part].to(device), targets[part].to(device))
        for _, histories, targets in samples.batches(batch_tokens)
        for part in torch.arange(len(targets)).split(_most_rows(model))
    ]


def _most_rows(model: Any) -> int:
    return max(1, MOST_LOGITS // int(model.item_count))


Operator = Callable[[Vector], Vector]
