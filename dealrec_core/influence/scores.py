"""Influence scores of all samples."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from dealrec_core.errors import DataError, NotFinite
from dealrec_core.influence import gradients, inverse
from dealrec_core.influence.gradients import Vector
from dealrec_core.influence.inverse import Solution
from dealrec_core.sequences import Sequences


class InfluenceConfig(BaseModel):
    """How influence is computed."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    risk: Literal["recent", "train"] = Field(default="recent", title="Risk")
    """recent: the mean loss on the newest slice before the test slice; train: that on the training set, as in the paper."""
    solver: Literal["cg", "identity"] = Field(default="cg", title="Solver")
    """cg: Gauss-Newton by conjugate gradients; identity: the plain gradient product, for comparison."""
    damping: float = Field(default=0.1, gt=0, title="Damping")
    """Added to every eigenvalue, as a share of the largest one. Larger is stabler and blunter."""
    tolerance: float = Field(default=1e-3, gt=0, lt=1, title="Tolerance")
    """Wanted relative residual."""
    most_steps: int = Field(default=100, ge=1, title="Most steps")
    curvature_samples: int | None = Field(default=4096, ge=1, title="Samples for the curvature")
    """The Gauss-Newton matrix is averaged over so many train samples, drawn once; None takes all."""
    batch_tokens: int = Field(default=16384, ge=1, title="Batch size in items")


@dataclass(frozen=True)
class InfluenceResult:
    """scores: float64 (N,); large and positive means that leaving the sample out raises the risk."""

    scores: np.ndarray
    residual: float
    products: int
    damping: float
    """As added to the eigenvalues."""
    top_eigenvalue: float


def score(model: Any, train: Sequences, risk: Sequences, *, config: InfluenceConfig, seed: int) -> InfluenceResult:
    """I(s) = (1/n) grad L(s)' q with (G + damping I) q = grad R (paper, Eq. 11).

    G is the Gauss-Newton matrix of the train loss where the paper has the Hessian, which is not positive definite away from a
    minimum. R is the mean loss over `risk`; the paper takes the training set, whose gradient is 0 where training ended.

    Raises:
        DataError: no train or no risk samples.
        NotConverged: q was not found; the message says what to change.
        NotFinite: a gradient or a score is NaN or infinite.
    """
    if len(train) == 0 or len(risk) == 0:
        raise DataError(f"{len(train)} train and {len(risk)} risk samples; influence needs both: widen the slices or wait for data")
    model.eval()
    v = gradients.mean_gradient(model, risk, batch_tokens=config.batch_tokens)
    solution, damping, top = _solve(model, train, v, config=config, seed=seed)
    derivatives = gradients.directional_derivatives(model, train, solution.vector, batch_tokens=config.batch_tokens)
    scores = derivatives.numpy() / len(train)
    if not np.isfinite(scores).all():
        raise NotFinite(f"{int((~np.isfinite(scores)).sum())} influence scores are not finite; retrain the surrogate")
    return InfluenceResult(scores, solution.residual, solution.products, damping, top)


def _solve(
    model: Any, train: Sequences, v: Vector, *, config: InfluenceConfig, seed: int
) -> tuple[Solution, float, float]:
    if config.solver == "identity":
        return Solution(v, 0.0, 0), 0.0, 0.0
    part = _drawn(train, config.curvature_samples, seed=seed)

    def product(vector: Vector) -> Vector:
        return gradients.gauss_newton_product(model, part, vector, batch_tokens=config.batch_tokens)

    power_steps = 5
    top = inverse.top_eigenvalue(product, v, steps=power_steps, seed=seed)
    damping = config.damping * top
    found = inverse.conjugate_gradients(
        product, v, damping=damping, tolerance=config.tolerance, most_steps=config.most_steps
    )
    return Solution(found.vector, found.residual, found.products + power_steps), damping, top


def _drawn(samples: Sequences, most: int | None, *, seed: int) -> Sequences:
    if most is None or len(samples) <= most:
        return samples
    return samples.take(np.sort(np.random.default_rng(seed).choice(len(samples), most, replace=False)))
