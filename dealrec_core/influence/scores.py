"""Influence of every train sample on a risk (METHOD: DEALRec, section 3.1, Eq. 11).

    v = (1/m) Σ_i ∇L(r_i)           over the risk samples r
    q = (G + dI)⁻¹ v                 G = (1/n) Σ_j Jᵀ B J over the train samples s
    I(s) = (1/n) ∇L(s)ᵀ q            for every s at once, as the derivative of L(s) along q

I(s) estimates by how much the risk rises when s is left out: large and positive means keep it. Deviations from the
paper, each an option: the risk is that of recent held-out samples, not of the train samples (whose gradient vanishes
at the optimum); all weights count, not one; the loss is exact or has fixed negatives and includes the target; the
curvature is Gauss-Newton, which is never negative; the residual is checked.
"""

import logging
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dealrec_core.errors import DataError
from dealrec_core.influence import inverse, losses, operators
from dealrec_core.influence import kept as kept_layer
from dealrec_core.influence.carried import Carried
from dealrec_core.influence.drawn import Drawn
from dealrec_core.influence.inverse import Damping, Product, Solution
from dealrec_core.influence.kept import Kept, keep
from dealrec_core.influence.operators import Problem
from dealrec_core.influence.part import spread
from dealrec_core.samples.sequences import Sequences
from dealrec_core.settings.influence import InfluenceConfig

log = logging.getLogger(__name__)


SHARE_SAMPLES = 2048
"""Samples whose mean softmax decides which items are likely to be negatives."""


@dataclass(frozen=True)
class InfluenceResult:
    """Scores in the order of the train samples, with their evidence."""

    scores: np.ndarray
    """I(s), float64 (N,)."""
    residual: float
    """‖(G + dI)q − v‖ / ‖v‖."""
    products: int
    """Curvature products over all train samples."""
    damping: float
    """d as added to every eigenvalue."""
    top_eigenvalue: float
    """Of G, as far as v sees it; 0 for the identity solver."""
    alignment: float
    """Cosine of q and v: 1 means that the curvature changed nothing."""
    gradient_norm: float
    """‖v‖."""
    parameter_count: int
    """P."""
    q: np.ndarray
    """(P,), for reuse as a start and for checks."""
    negatives: np.ndarray
    """Items (K,) of the loss, empty for softmax."""
    carried: Carried | None = None
    """What the next night can start from; None where the solver leaves nothing."""


def score(
    model: Any,
    train: Sequences,
    risk: Sequences,
    *,
    config: InfluenceConfig,
    seed: int,
    device: torch.device | str = "cpu",
) -> InfluenceResult:
    """Influence of every train sample on the mean loss of the risk samples; `seed` draws the negatives and the
    curvature samples, where there are any.

    Raises:
        DataError: no train or no risk samples.
        SettingsError: an unknown layer, or a solver that cannot take so many parameters.
        NotConverged: the residual stayed above the tolerance.
        NotFinite: a NaN or infinity in a gradient, product or score.
        NumericsError: negative curvature, a singular operator, or a risk without gradient.
    """
    _check(train, risk)
    problem = problem_of(model, train, config=config, seed=seed, device=device)
    rows, counted = np.arange(len(train)), train
    if config.target == "released":
        (rows, counted), (_, risk) = _without_target(train), _without_target(risk)
        _check(counted, risk)
    v = operators.gradient(problem, risk)
    drawn = _drawn(counted, config.curvature_samples, seed=seed)
    curved = Curved.over(problem, drawn, config=config)
    solution = solve(problem, drawn, curved, v, config=config, seed=seed)
    scores = np.zeros(len(train))
    scores[rows] = (curved if drawn is counted else Curved(problem, counted)).directional(solution.q) / len(train)
    log.info("influence: %d samples, %d products, residual %.1e", len(train), solution.products, solution.residual)
    return InfluenceResult(
        scores=scores,
        residual=solution.residual,
        products=solution.products,
        damping=solution.damping,
        top_eigenvalue=solution.top,
        alignment=cosine(solution.q, v),
        gradient_norm=v.double().norm().item(),
        parameter_count=problem.parameters.size,
        q=solution.q.cpu().numpy(),
        negatives=np.empty(0, np.int64) if problem.loss.negatives is None else problem.loss.negatives.cpu().numpy(),
        carried=_carried(problem, v, solution, train=len(train), risk=len(risk), config=config)
        if drawn is train
        else None,
    )


def _carried(
    problem: Problem, v: Tensor, solution: Solution, *, train: int, risk: int, config: InfluenceConfig
) -> Carried | None:
    if solution.left is None or config.curvature != "gauss_newton":
        return None
    return Carried(
        q=solution.q,
        v=v,
        image=v - solution.left - solution.damping * solution.q,
        damping=solution.damping,
        top=solution.top,
        loss=problem.loss,
        train_count=train,
        risk_count=risk,
    )


def problem_of(
    model: Any, train: Sequences, *, config: InfluenceConfig, seed: int, device: torch.device | str = "cpu"
) -> Problem:
    """The network with the loss of the settings; `seed` draws its negatives: those of sampled softmax by the network's own
    shares of the items, those of bce evenly, as in the released code."""
    shares = None
    if config.loss == "sampled" and config.negatives < model.item_count:
        some = spread(train, SHARE_SAMPLES)
        shares = operators.shares(model, some, batch_tokens=config.batch_tokens, device=device)
    loss = losses.build(
        config.loss,
        item_count=model.item_count,
        negatives=config.negatives,
        seed=seed,
        shares=shares,
        device=device,
    )
    return operators.problem(
        model,
        config.parameters,
        loss,
        batch_tokens=config.batch_tokens,
        device=device,
        precision=config.precision,
    )


@dataclass(frozen=True)
class Curved:
    """Some samples with what is known of them, by the cheaper way where there is one."""

    problem: Problem
    samples: Sequences
    kept: Kept | None = None
    drawn: Drawn | None = None

    @staticmethod
    def over(problem: Problem, samples: Sequences, *, config: InfluenceConfig, drawn: Drawn | None = None) -> "Curved":
        wanted = config.kept_mb and config.curvature == "gauss_newton" and config.solver in ("cg", "exact")
        kept = keep(problem, samples, most_bytes=config.kept_mb * 2**20, drawn=drawn) if wanted else None
        return Curved(problem, samples, kept, drawn)

    def gauss_newton(self, direction: Tensor) -> Tensor:
        if self.kept is not None:
            return kept_layer.gauss_newton(self.kept, direction)
        return operators.gauss_newton(self.problem, self.samples, direction, drawn=self.drawn)

    def directional(self, direction: Tensor) -> np.ndarray:
        if self.kept is not None:
            return kept_layer.directional(self.kept, direction)
        return operators.directional(self.problem, self.samples, direction)


def solve(
    problem: Problem, train: Sequences, curved: Curved, v: Tensor, *, config: InfluenceConfig, seed: int
) -> Solution:
    """q by the solver of the settings, the damping by their rule."""
    part = _part(problem, train, config=config)
    damping, spent = Damping(config.damping, config.damping_rule), 0
    if config.damping_rule == "trace" and config.solver in ("cg", "lissa", "exact"):
        mean, spent = inverse.mean_eigenvalue((part or curved).gauss_newton, v, samples=len(train))
        damping = replace(damping, mean=mean)
    found = _solved(problem, train, curved, part, v, damping=damping, config=config, seed=seed)
    return found if part is not None else replace(found, products=found.products + spent)


def _solved(
    problem: Problem,
    train: Sequences,
    curved: Curved,
    part: Curved | None,
    v: Tensor,
    *,
    damping: Damping,
    config: InfluenceConfig,
    seed: int,
) -> Solution:
    curvature = operators.hessian if config.curvature == "hessian" else operators.gauss_newton
    product: Product = partial(curvature, problem, train) if curved.kept is None else curved.gauss_newton
    match config.solver:
        case "cg" if part is not None:
            return inverse.prepared(
                product,
                part.gauss_newton,
                v,
                damping=damping,
                tolerance=config.tolerance,
                most_steps=config.most_steps,
            )
        case "cg":
            return inverse.conjugate_gradients(
                product, v, damping=damping, tolerance=config.tolerance, most_steps=config.most_steps
            )
        case "lissa":
            random = np.random.default_rng(seed)
            size = min(config.lissa_samples, len(train))
            return inverse.lissa(
                product,
                lambda u: curvature(problem, train.take(random.permutation(len(train))[:size]), u),
                v,
                share=size / len(train),
                damping=damping,
                tolerance=config.tolerance,
                most_steps=config.most_steps,
            )
        case "released":
            random = np.random.default_rng(seed)
            return inverse.released(
                product, lambda u: curvature(problem, train.take(random.integers(len(train), size=1)), u), v
            )
        case "exact":
            return inverse.exact(product, v, damping=damping)
        case "identity":
            return inverse.identity(v)


def _part(problem: Problem, train: Sequences, *, config: InfluenceConfig) -> Curved | None:
    """What makes a cheap product: fewer samples, or fewer outputs of each; None where neither is cheap."""
    if config.solver != "cg" or config.curvature != "gauss_newton" or config.part_samples is None:
        return None
    draws = problem.loss.width > 4 * config.part_outputs
    count = min(config.part_samples, problem.parameters.size)
    if draws:
        count = min(count, max(1, len(train) // 4))
    elif len(train) < 2 * count:
        return None
    samples = spread(train, count)
    drawn = operators.draw(problem, samples, config.part_outputs) if draws else None
    return Curved.over(problem, samples, config=config, drawn=drawn)


def _check(train: Sequences, risk: Sequences) -> None:
    if not len(train):
        raise DataError("0 train samples to score; ingest more interactions or widen the train slice")
    if not len(risk):
        raise DataError("0 risk samples; raise samples.validation_fraction or set influence.risk = 'train'")


def _drawn(samples: Sequences, most: int | None, *, seed: int) -> Sequences:
    if most is None or len(samples) <= most:
        return samples
    return samples.take(np.sort(np.random.default_rng(seed).choice(len(samples), most, replace=False)))


def _without_target(samples: Sequences) -> tuple[np.ndarray, Sequences]:
    """The rows with two or more items of history, and those samples one step earlier."""
    rows = np.flatnonzero(samples.lengths > 1)
    longer = samples.take(rows)
    ends = longer.offsets[1:] - 1
    offsets = np.concatenate([[0], np.cumsum(longer.lengths - 1)])
    return rows, Sequences(np.delete(longer.items, ends), offsets, longer.items[ends])


def cosine(left: Tensor, right: Tensor) -> float:
    """Of two vectors, in float64."""
    left, right = left.double(), right.double()
    return (left @ right / (left.norm() * right.norm())).item()
