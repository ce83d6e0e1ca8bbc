"""Influence of every train sample on a risk (METHOD: DEALRec, section 3.1, Eq. 11).

    v = Σ_i w_i ∇L(r_i) / Σ_i w_i    over the risk samples r, weighted by the objective (objective.py)
    q = (G + dI)⁻¹ v                 G = (1/n) Σ_j Jᵀ B J over the train samples s
    I(s) = (1/n) ∇L(s)ᵀ q            for every s at once, as the derivative of L(s) along q

I(s) estimates by how much the risk rises when s is left out: large and positive means that s is worth keeping.
Deviations from the paper, each an option: the risk is that of recent held-out samples, not of the train samples (whose
gradient vanishes at the optimum); all weights count, not one; the loss is exact or has fixed negatives and includes the
target; the curvature is Gauss-Newton, which is never negative; the residual is checked.
"""

import logging
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dealrec_core.errors import DataError
from dealrec_core.influence import curvature as curvatures
from dealrec_core.influence import inverse, kernels, losses, objective, operators
from dealrec_core.influence.carried import Carried
from dealrec_core.influence.curvature import Curvature
from dealrec_core.influence.inverse import AfterProduct, Damping, Solution, unwatched
from dealrec_core.influence.operators import Problem
from dealrec_core.language.progress import Progress, silent
from dealrec_core.samples.rolling_hash import spread
from dealrec_core.samples.sequences import Sequences
from dealrec_core.settings.influence import InfluenceConfig
from dealrec_core.surrogate.base import NextItemModel

log = logging.getLogger(__name__)


SHARE_SAMPLES = 2048
"""Samples whose mean softmax decides which items are likely to be negatives."""
SOLVED = 90
"""Percent of the work when q is solved; the scores are the rest."""


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
    """Largest eigenvalue of G, as far as v sees it; 0 for the identity solver."""
    alignment: float
    """Cosine of q and v: 1 means that the curvature changed nothing."""
    q: np.ndarray
    """(P,), for reuse as a start and for checks."""
    risk_count: int
    """Number of risk samples that count for the objective, 0 where no target is within reach: then all of them count."""
    carried: Carried | None = None
    """Sums that the next night can start from; None where the solver gives none."""


@kernels.differentiable()
def score(
    model: NextItemModel,
    train: Sequences,
    risk: Sequences,
    *,
    config: InfluenceConfig,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Progress = silent,
) -> InfluenceResult:
    """Influence of every train sample on the mean loss of the risk samples that count for the objective.

    `seed` draws the negatives and the curvature samples, if the settings need any. `progress` is called with the percent that
    is done, by the residual. `modules.score_module` scores models that do not predict a next item.

    Raises:
        DataError: no train or no risk samples.
        SettingsError: an unknown layer, or a solver that cannot compute this number of parameters.
        NotConverged: the residual stayed above the tolerance.
        NotFinite: a NaN or infinity in a gradient, product or score.
        NumericsError: negative curvature, a singular operator, or a risk without gradient.

    Three samples of two items each; the first repeats the risk sample, so the risk would rise most without it:

    >>> from dealrec_core.surrogate import networks
    >>> from dealrec_core.surrogate.sasrec import Shape
    >>> model = networks.build("sasrec", Shape(item_count=5, width=8, history_length=2), seed=0)
    >>> train = Sequences(np.array([0, 1, 2, 3, 4, 0]), np.array([0, 2, 4, 6]), np.array([2, 4, 1]))
    >>> risk = Sequences(np.array([0, 1]), np.array([0, 2]), np.array([2]))
    >>> result = score(model, train, risk, config=InfluenceConfig(), seed=0)
    >>> int(result.scores.argmax()), result.residual < 1e-3
    (0, True)
    """
    _check(train, risk)
    problem = problem_of(model, train, config=config, seed=seed, device=device)
    rows, counted = np.arange(len(train)), train
    if config.target == "released":
        (rows, counted), (_, risk) = _without_target(train), _without_target(risk)
        _check(counted, risk)
    weights = objective.weights(problem, risk, config=config)
    risk_count = int(weights.sum())
    if risk_count:
        v = operators.gradient(problem, risk, weights=weights) * (len(risk) / risk_count)
    else:
        log.warning("influence: no target of %d risk samples is among the first %d: all count", len(risk), config.reach)
        v = operators.gradient(problem, risk)
    curved = counted.sampled(config.curvature_samples, seed=seed)
    curvature = Curvature(problem, curved, config.curvature)
    solution = solve(curvature, v, config=config, seed=seed, after_product=percent(progress, config.tolerance))
    scores = np.zeros(len(train))
    scores[rows] = operators.directional(problem, counted, solution.q) / len(train)
    progress(100, 100)
    log.info("influence: %d samples, %d products, residual %.1e", len(train), solution.products, solution.residual)
    carried = None
    if risk_count and curved is train and config.curvature == "gauss_newton" and solution.remainder is not None:
        image = v - solution.remainder - solution.damping * solution.q
        counts = {"train_count": len(train), "risk_count": risk_count}
        carried = Carried(solution.q, v, image, solution.damping, solution.top, problem.loss, **counts)
    return result_of(scores, solution, v, risk_count=risk_count, carried=carried)


def percent(progress: Progress, tolerance: float) -> AfterProduct:
    """Returns a function of the residual that reports the percent done: the logarithm of the residual falls evenly."""
    done = 0

    def after_product(residual: float) -> None:
        nonlocal done
        share = math.log(min(1.0, max(residual, tolerance))) / math.log(tolerance)
        done = max(done, round(SOLVED * share))
        progress(done, 100)

    return after_product


def result_of(
    scores: np.ndarray, solution: Solution, v: Tensor, *, risk_count: int, carried: Carried | None
) -> InfluenceResult:
    """The scores along the solution for v, with its evidence."""
    return InfluenceResult(
        scores=scores,
        residual=solution.residual,
        products=solution.products,
        damping=solution.damping,
        top_eigenvalue=solution.top,
        alignment=_cosine(solution.q, v),
        q=solution.q.cpu().numpy(),
        risk_count=risk_count,
        carried=carried,
    )


def problem_of(
    model: Any, train: Sequences, *, config: InfluenceConfig, seed: int, device: torch.device | str = "cpu"
) -> Problem:
    """The network with the loss of the settings.

    `seed` draws the negatives: those of sampled softmax by the network's own shares of the items, those of bce evenly, as
    in the released code.
    """
    shares = None
    if config.loss == "sampled" and config.negatives < model.item_count:
        some = spread(train, SHARE_SAMPLES)
        shares = operators.shares(model, some, batch_tokens=config.batch_tokens, device=device)
    drawn: dict[str, Any] = {"negatives": config.negatives, "seed": seed, "shares": shares}
    loss = losses.build(config.loss, item_count=model.item_count, device=device, **drawn)
    return operators.problem(model, loss, config=config, device=device)


def solve(
    curvature: Curvature, v: Tensor, *, config: InfluenceConfig, seed: int, after_product: AfterProduct = unwatched
) -> Solution:
    """q = (G + dI)⁻¹ v by the solver of the settings, d by the rule of the settings; raises the solver's errors."""
    cheap = curvatures.cheap(curvature, config=config)
    damping, probes = Damping(config.damping, config.damping_rule), 0
    if config.damping_rule == "trace" and config.solver in ("cg", "lissa", "exact"):
        # The mean eigenvalue is that of the Gauss-Newton matrix also where the Hessian is solved with: its trace is positive.
        semidefinite = cheap or replace(curvature, kind="gauss_newton")
        mean, probes = inverse.mean_eigenvalue(semidefinite, v, samples=len(curvature.samples))
        damping = replace(damping, mean=mean)
    limits: dict[str, Any] = {"damping": damping, "tolerance": config.tolerance, "most_steps": config.most_steps}
    solution = _solved(curvature, cheap, v, config=config, seed=seed, **limits, after_product=after_product)
    return solution if cheap is not None else replace(solution, products=solution.products + probes)


def _solved(
    curvature: Curvature, cheap: Curvature | None, v: Tensor, *, config: InfluenceConfig, seed: int, **limits: Any
) -> Solution:
    random, count = np.random.default_rng(seed), len(curvature.samples)
    match config.solver:
        case "cg" if cheap is not None:
            return inverse.prepared(curvature, cheap, v, **limits)
        case "cg":
            return inverse.conjugate_gradients(curvature, v, **limits)
        case "lissa":
            size = min(config.lissa_samples, count)
            return inverse.lissa(
                curvature, lambda: curvature.take(random.permutation(count)[:size]), v, share=size / count, **limits
            )
        case "released":
            return inverse.released(curvature, lambda: curvature.take(random.integers(count, size=1)), v)
        case "exact":
            return inverse.exact(curvature, v, damping=limits["damping"])
        case "identity":
            return inverse.identity(v)


def _check(train: Sequences, risk: Sequences) -> None:
    if not len(train):
        raise DataError("0 train samples to score; ingest more interactions or widen the train slice")
    if not len(risk):
        raise DataError("0 risk samples; raise samples.validation_fraction or set influence.risk = 'train'")


def _without_target(samples: Sequences) -> tuple[np.ndarray, Sequences]:
    """Rows with two or more items of history, and these samples one step earlier."""
    rows = np.flatnonzero(samples.lengths > 1)
    longer = samples.take(rows)
    ends = longer.offsets[1:] - 1
    offsets = np.concatenate([[0], np.cumsum(longer.lengths - 1)])
    return rows, Sequences(np.delete(longer.items, ends), offsets, longer.items[ends])


def _cosine(first: Tensor, second: Tensor) -> float:
    first, second = first.double(), second.double()
    return (first @ second / (first.norm() * second.norm())).item()
