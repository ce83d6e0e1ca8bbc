"""Sums that one night's influence hands to the next, so that only added and removed samples are computed.

v = mean of ∇L over the risk samples and Gq = mean of Jᵀ B J q over the train samples are sums. At the same weights they
follow a changed set of samples through the added and removed samples alone, and the residual of the old q on tonight's
samples, ‖Gq + dq − v‖ / ‖v‖, costs nothing more. Below `InfluenceConfig.most_residual` q stays and new samples alone are
scored; above it q takes one correction, (G + dI) δ = v − Gq − dq, which is cheaper than solving anew.

All sums are taken at the weights of one network, the reference. It is older than tonight's network. While few samples are new, its scores
agree with those of a surrogate from scratch as well as tonight's do (docs/decisions/influence.md).
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import torch as safetensors
from torch import Tensor

from dealrec_core.influence import objective, operators
from dealrec_core.influence.losses import Loss
from dealrec_core.influence.operators import Problem
from dealrec_core.influence.parameters import Parameters
from dealrec_core.samples.sequences import Sequences, joined
from dealrec_core.settings.influence import InfluenceConfig

VECTORS = "vectors.safetensors"
DESCRIPTION = "influence.json"


@dataclass(frozen=True)
class Carried:
    """Sums over samples at the weights of the reference network; vectors are flat (P,)."""

    q: Tensor
    v: Tensor
    """Mean gradient of the risk samples that count for the objective."""
    image: Tensor
    """G q over the train samples."""
    damping: float
    """d."""
    top: float
    """Largest eigenvalue of G when q was solved for anew."""
    loss: Loss
    train_count: int
    risk_count: int
    """Number of risk samples that count."""

    @property
    def remainder(self) -> Tensor:
        """v − (G + dI) q."""
        return self.v - self.image - self.damping * self.q

    @property
    def residual(self) -> float:
        """‖(G + dI) q − v‖ / ‖v‖."""
        return (self.remainder.double().norm() / self.v.double().norm()).item()


@dataclass(frozen=True)
class Change:
    """Difference between two sets of samples."""

    added: Sequences
    removed: Sequences


def followed(
    problem: Problem, carried: Carried, *, train: Change, risk: Change, config: InfluenceConfig
) -> Carried | None:
    """The sums after the samples changed, at the cost of a product and a gradient over the added and removed samples.

    None where no risk sample counts any more.
    """
    v, risk_count = carried.v * carried.risk_count, carried.risk_count
    if len(risk.added) + len(risk.removed):
        both = joined(risk.added, risk.removed)
        signs = np.repeat([1.0, -1.0], [len(risk.added), len(risk.removed)])
        weights = signs * objective.weights(problem, both, config=config)
        v, risk_count = (
            v + len(both) * operators.gradient(problem, both, weights=weights),
            risk_count + int(weights.sum()),
        )
    if risk_count == 0:
        return None
    image, train_count = carried.image * carried.train_count, carried.train_count
    for sign, samples in ((1, train.added), (-1, train.removed)):
        if len(samples):
            image = image + sign * len(samples) * operators.gauss_newton(problem, samples, carried.q)
            train_count += sign * len(samples)
    return replace(carried, v=v / risk_count, image=image / train_count, train_count=train_count, risk_count=risk_count)


def loss_over_old_items(loss: Loss) -> Loss:
    """The loss for a network with more items, equal to `loss` on samples of the old items.

    The softmax stays over its old catalogue: with all old items as negatives of weight 1, sampled softmax is softmax.
    """
    if loss.negatives is not None:
        return loss
    return Loss("sampled", torch.arange(loss.item_count), loss.item_count + 1)


def widened(carried: Carried, *, old: Parameters, new: Parameters) -> Carried:
    """The sums for a network whose first axes have grown by new items; no earlier sample has seen these, so they get zeros."""

    def wider(vector: Tensor) -> Tensor:
        parts = []
        for name, part in old.split(vector).items():
            whole = torch.zeros_like(new.values[name]).detach()
            whole[tuple(slice(size) for size in part.shape)] = part
            parts.append(whole)
        return new.flat(parts)

    loss = loss_over_old_items(carried.loss)
    return replace(carried, q=wider(carried.q), v=wider(carried.v), image=wider(carried.image), loss=loss)


def save(folder: Path, carried: Carried, *, lineage: dict[str, Any]) -> None:
    """Writes the vectors and a description into an existing folder; equal inputs give equal bytes."""
    vectors = {name: getattr(carried, name).detach().cpu().contiguous() for name in ("q", "v", "image")}
    if carried.loss.negatives is not None:
        vectors["negatives"] = carried.loss.negatives.cpu()
    if carried.loss.counts is not None:
        vectors["counts"] = carried.loss.counts.cpu()
    (folder / VECTORS).write_bytes(safetensors.save(vectors))
    description = {
        "damping": carried.damping,
        "top": carried.top,
        "loss": carried.loss.name,
        "items": carried.loss.item_count,
        "train": carried.train_count,
        "risk": carried.risk_count,
        "lineage": lineage,
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1, sort_keys=True), encoding="utf-8")


def load(folder: Path, *, device: torch.device | str = "cpu") -> tuple[Carried, dict[str, Any]]:
    """Reads the sums that `save` wrote, and their lineage."""
    vectors = safetensors.load_file(folder / VECTORS, device=str(device))
    description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    carried = Carried(
        q=vectors["q"],
        v=vectors["v"],
        image=vectors["image"],
        damping=description["damping"],
        top=description["top"],
        loss=Loss(description["loss"], vectors.get("negatives"), description["items"], vectors.get("counts")),
        train_count=description["train"],
        risk_count=description["risk"],
    )
    return carried, description["lineage"]
