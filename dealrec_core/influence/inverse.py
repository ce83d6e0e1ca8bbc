"""Solves (G + dI) q = v for an operator G of which only products `G @ u` are known.

The damping d follows a rule: multiples of the mean eigenvalue (`trace`), a share of the largest (`top`), or a plain
number (`absolute`). Every solver returns its evidence.
"""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dealrec_core.errors import NotConverged, NotFinite, NumericsError, SettingsError
from dealrec_core.settings.influence import DampingRule

EXACT_LIMIT = 5000
"""Most parameters of a dense solve."""
TOP_TOLERANCE = 1e-2
"""Relative error of the largest eigenvalue below which damping follows it."""
TRACE_TOLERANCE = 0.1
"""Standard error of the trace, as a share of it."""
MOST_PROBES = 100
"""Most products for the trace."""

PREPARED_TOLERANCE = 0.2
"""Residual of a direction by the cheap operator; the error of that operator itself is not far below."""
MOST_CHEAP = 1000
"""Most cheap products for one direction."""


AfterProduct = Callable[[float], None]
"""Called with the relative residual after every product that brings one."""


def unwatched(residual: float) -> None:
    """Ignores the residual."""


class Operator(Protocol):
    """A symmetric linear operator (P, P): a matrix, or a `Curvature`."""

    def __matmul__(self, direction: Tensor, /) -> Tensor:
        """G u (P,)."""
        ...


@dataclass(frozen=True)
class Damping:
    """The number d that is added to every eigenvalue of the curvature, by a rule."""

    value: float
    rule: DampingRule
    mean: float = 1.0
    """Mean eigenvalue, for the rule `trace`."""

    def given(self, top: float) -> float:
        """d for an operator whose largest eigenvalue is `top`."""
        return self.value * {"trace": self.mean, "top": top, "absolute": 1.0}[self.rule]


@dataclass(frozen=True)
class Solution:
    """q with its evidence."""

    q: Tensor
    residual: float
    """‖(G + dI)q − v‖ / ‖v‖."""
    products: int
    """Products with G over all samples."""
    damping: float
    """d as used."""
    top: float
    """Largest absolute eigenvalue of G, as far as v sees it."""
    remainder: Tensor | None = None
    """v − (G + dI)q, where the solver computes it."""


def mean_eigenvalue(G: Operator, like: Tensor, *, samples: int) -> tuple[float, int]:
    """Trace of a positive semidefinite G, divided by the number of weights (those of `like`) or of samples, whichever is
    smaller; and the number of products spent on it.

    At d = tr G / N the mean leverage of a sample, tr G(G + dI)⁻¹ / N, is at most 1: leaving it out stays within what a
    linear score can tell. Random signs z have mean zᵀGz = tr G (Hutchinson 1990); they are always the same ones, and as
    many as bring the standard error to TRACE_TOLERANCE of the trace.

    Raises:
        NotFinite: a product holds NaN or infinity.
    """
    random = torch.Generator().manual_seed(0)
    traces: list[float] = []
    while len(traces) < MOST_PROBES:
        probe = torch.randint(2, (len(like),), generator=random).to(like) * 2 - 1
        traces.append(_dot(probe, _finite(G @ probe)))
        mean = statistics.mean(traces)
        if len(traces) > 2 and statistics.stdev(traces) <= TRACE_TOLERANCE * mean * len(traces) ** 0.5:
            break
    return max(0.0, mean) / min(len(like), samples), len(traces)


def conjugate_gradients(
    G: Operator,
    v: Tensor,
    *,
    damping: Damping,
    tolerance: float,
    most_steps: int,
    after_product: AfterProduct = unwatched,
) -> Solution:
    """q by conjugate gradients for symmetric G with G + dI positive definite, in their Lanczos form.

    The basis K of {v, Gv, G²v, …} does not depend on d, and Kᵀ G K is a small tridiagonal T. So the same products
    give the largest eigenvalue, hence d by its rule, and q = K (T + dI)⁻¹ Kᵀ v, the very iterate of conjugate gradients
    at that d. Its residual is β_k |y_k| / ‖v‖. The solver stops when that is within tolerance and, where the damping
    follows the top eigenvalue, that is known to 1%. A second projection keeps the basis orthogonal; memory is steps × P.
    Source: Golub and Van Loan, Matrix Computations, sections 10.1-10.3.

    Raises:
        NotConverged: the residual after `most_steps` products is above `tolerance`.
        NumericsError: G + dI is singular or not positive definite, or v is zero.
        NotFinite: v or a product holds NaN or infinity.
    """
    size = _norm(v)
    basis = [v / size]
    alphas: list[float] = []
    betas: list[float] = []
    while True:
        image = _finite(G @ basis[-1])
        alphas.append(_dot(basis[-1], image))
        for direction in [*basis, *basis]:
            image = image - _dot(direction, image) * direction
        betas.append(image.double().norm().item())
        iterate = _iterate(alphas, betas, damping=damping)
        after_product(iterate.residual)
        if iterate.residual <= tolerance and iterate.is_top_known:
            break
        if len(alphas) >= most_steps:
            raise NotConverged(
                f"residual {iterate.residual:.1e} after {len(alphas)} products, but the tolerance is {tolerance:.1e}; "
                f"raise influence.damping ({damping.value:g}) or most_steps ({most_steps}) in a study"
            )
        basis.append(image / betas[-1])
    q = sum((weight * size) * vector for weight, vector in zip(iterate.weights.tolist(), basis, strict=True))
    assert isinstance(q, Tensor)
    remainder = image * (-size * iterate.weights[-1].item())
    return Solution(q, iterate.residual, len(alphas), iterate.damping, iterate.top, remainder)


def prepared(
    G: Operator,
    C: Operator,
    v: Tensor,
    *,
    damping: Damping,
    tolerance: float,
    most_steps: int,
    after_product: AfterProduct = unwatched,
) -> Solution:
    """q by generalised conjugate residuals, each direction prepared with a cheap operator C that is nearly G.

    A direction is p ≈ (C + dI)⁻¹ r for the residual r, by conjugate gradients. Were C equal to G, one product with G would
    do; the error of C remains after each product, which gains four- to sixfold where plain conjugate gradients gain a
    fraction. The damping follows C where it follows the largest eigenvalue. The residual is that of G itself, and each
    step makes it least over all directions so far.
    Source: Eisenstat, Elman and Schultz 1983, "Variational iterative methods for nonsymmetric systems" (GCR).

    Raises:
        NotConverged: the residual after `most_steps` products is above `tolerance`.
        NumericsError: C + dI is singular or not positive definite, or v is zero.
        NotFinite: v or a product holds NaN or infinity.
    """
    size = _norm(v)
    first = _cheaply(C, v, damping=damping, tolerance=PREPARED_TOLERANCE, after_product=after_product)
    added = Damping(first.damping, "absolute")
    direction, q, residual = first.q, torch.zeros_like(v), v
    pairs: list[tuple[Tensor, Tensor]] = []
    while True:
        image = _finite(G @ direction) + first.damping * direction
        for earlier, earlier_image in pairs:
            overlap = _dot(earlier_image, image)
            direction, image = direction - overlap * earlier, image - overlap * earlier_image
        length = image.double().norm().item()
        pairs.append((direction / length, image / length))
        gain = _dot(pairs[-1][1], residual)
        q, residual = q + gain * pairs[-1][0], residual - gain * pairs[-1][1]
        relative = residual.double().norm().item() / size
        after_product(relative)
        if relative <= tolerance:
            return Solution(q, relative, len(pairs), first.damping, first.top, residual)
        if len(pairs) >= most_steps:
            raise NotConverged(
                f"residual {relative:.1e} after {len(pairs)} products, but the tolerance is {tolerance:.1e}; raise "
                f"influence.damping ({damping.value:g}), or part_samples or most_steps ({most_steps}) in a study"
            )
        # No finer than the reduction that is still missing.
        aim = max(PREPARED_TOLERANCE, 0.3 * tolerance / relative)
        expected = partial(_expected, after_product, relative)
        direction = _cheaply(C, residual, damping=added, tolerance=aim, after_product=expected).q


def _expected(after_product: AfterProduct, relative: float, of_direction: float) -> None:
    """Reports the residual that the next product would leave if C were equal to G."""
    after_product(relative * of_direction)


def _cheaply(
    C: Operator, residual: Tensor, *, damping: Damping, tolerance: float, after_product: AfterProduct
) -> Solution:
    try:
        return conjugate_gradients(
            C, residual, damping=damping, tolerance=tolerance, most_steps=MOST_CHEAP, after_product=after_product
        )
    except NotConverged as error:
        raise NotConverged(
            f"no direction was accurate enough after {MOST_CHEAP} cheap products at damping {damping.given(0.0):.1e}; "
            "raise influence.damping"
        ) from error


class _Iterate(NamedTuple):
    weights: Tensor
    residual: float
    damping: float
    top: float
    is_top_known: bool
    """True also where the damping does not follow the top eigenvalue."""


def _iterate(alphas: list[float], betas: list[float], *, damping: Damping) -> _Iterate:
    """The iterate within the Krylov space of len(alphas) products, for a right-hand side of norm 1."""
    off = torch.tensor(betas[:-1], dtype=torch.float64)
    tridiagonal = torch.diag(torch.tensor(alphas, dtype=torch.float64)) + torch.diag(off, 1) + torch.diag(off, -1)
    values, vectors = torch.linalg.eigh(tridiagonal)
    largest = int(values.abs().argmax())
    top, top_error = abs(values[largest].item()), betas[-1] * abs(vectors[-1, largest].item())
    added = damping.given(top)
    is_top_known = damping.rule != "top" or top_error <= TOP_TOLERANCE * top
    if is_top_known:
        # Values found so far lie within the spectrum: what is not positive here is not positive at all.
        _check_definite(values[0].item(), damping=added, top=top)
    weights = vectors @ (vectors[0] / (values + added))
    return _Iterate(weights, betas[-1] * abs(weights[-1].item()), added, top, is_top_known)


def _check_definite(smallest: float, *, damping: float, top: float) -> None:
    if smallest + damping > 1e-12 * max(top, damping):
        return
    what = "has negative curvature" if smallest < -1e-6 * top else "is singular"
    raise NumericsError(
        f"the operator {what}: eigenvalue {smallest:.2e} with damping {damping:.2e}; "
        "raise influence.damping or set influence.curvature = 'gauss_newton'"
    )


def exact(G: Operator, v: Tensor, *, damping: Damping) -> Solution:
    """q by a dense float64 solve; costs P products, for small parameter sets.

    Raises:
        SettingsError: more than EXACT_LIMIT parameters.
        NumericsError: G + dI is singular or not positive definite, or v is zero.
        NotFinite: v or a product holds NaN or infinity.
    """
    if len(v) > EXACT_LIMIT:
        raise SettingsError(
            f"influence.solver 'exact' takes at most {EXACT_LIMIT} parameters, the chosen set has {len(v)}; use 'cg'"
        )
    size = _norm(v)
    unit = torch.eye(len(v), dtype=v.dtype, device=v.device)
    dense = torch.stack([_finite(G @ row) for row in unit]).double()
    values, vectors = torch.linalg.eigh((dense + dense.T) / 2)
    top = values.abs().max().item()
    added = damping.given(top)
    _check_definite(values[0].item(), damping=added, top=top)
    q = vectors @ ((vectors.T @ v.double()) / (values + added))
    remainder = v.double() - dense @ q - added * q
    return Solution(q.to(v), remainder.norm().item() / size, len(v), added, top, remainder.to(v))


def lissa(
    G: Operator,
    batch: Callable[[], Operator],
    v: Tensor,
    *,
    share: float,
    damping: Damping,
    tolerance: float,
    most_steps: int,
    after_product: AfterProduct = unwatched,
) -> Solution:
    """q by h ← h + η (v − (G_t + dI) h) with G_t over a random batch and η = 1 / (top + d) (Agarwal et al. 2017).

    The recursion contracts where no batch curves more than all samples together; with batches below that its answer has
    their noise, so the second half of each stretch of steps is averaged, and the residual over all samples is
    checked after every stretch. A stretch is twice as long as the one before.

    Args:
        batch: draws a random batch and returns its operator G_t.
        share: cost of one product with G_t in full products.

    Raises:
        NotConverged: `most_steps` full products are spent and the residual is above `tolerance`.
        NumericsError: v is zero, or the recursion diverges.
        NotFinite: v or a product holds NaN or infinity.
    """
    size = _norm(v)
    estimate = conjugate_gradients(G, v, damping=Damping(1.0, "top"), tolerance=0.1, most_steps=50)
    top, spent = estimate.top, float(estimate.products)
    added = damping.given(top)
    current, stretch, residual = torch.zeros_like(v), max(1, round(2 / share)), 1.0
    while spent + stretch * share + 1 <= most_steps:
        tail = torch.zeros_like(v)
        for step in range(stretch):
            current = current + (v - _finite(batch() @ current) - added * current) / (top + added)
            if step >= stretch // 2:
                tail += current / (stretch - stretch // 2)
        answer = current if share == 1.0 else tail
        residual = (_finite(G @ answer) + added * answer - v).double().norm().item() / size
        spent += stretch * share + 1
        after_product(residual)
        if residual <= tolerance:
            return Solution(answer, residual, math.ceil(spent), added, top)
        stretch *= 2
    raise NotConverged(
        f"residual {residual:.1e} after {math.ceil(spent)} products, but the tolerance is {tolerance:.1e}; raise influence.damping "
        f"({damping.value:g}), influence.most_steps ({most_steps}) or influence.lissa_samples, or set solver = 'cg'"
    )


def released(G: Operator, sample: Callable[[], Operator], v: Tensor, *, steps: int = 5000) -> Solution:
    """q as the released code computes it: h ← v + (1 − 0.01) h − G_t h / 25 with one random sample a step, then q = h / 25.

    The fixed point solves (G + 0.25 I) q = v. The released code does not check whether 5,000 steps come near it; the
    residual returned here does.

    Args:
        sample: draws a random sample and returns its operator G_t.
    """
    size = _norm(v)
    current = v
    for _ in range(steps):
        current = v + 0.99 * current - _finite(sample() @ current) / 25
    q = current / 25
    residual = (_finite(G @ q) + 0.25 * q - v).double().norm().item() / size
    return Solution(q, residual, 1, 0.25, 0.0)


def identity(v: Tensor) -> Solution:
    """q = v: the plain gradient product, for comparison."""
    _norm(v)
    return Solution(v, 0.0, 0, 0.0, 0.0)


def _norm(v: Tensor) -> float:
    size = _finite(v).double().norm().item()
    if size == 0:
        raise NumericsError(
            "the risk's gradient is exactly 0, so every score would be 0; choose another influence.risk, or "
            "other parameters in a study"
        )
    return size


def _finite(vector: Tensor) -> Tensor:
    if not torch.isfinite(vector).all():
        bad = int((~torch.isfinite(vector)).sum())
        raise NotFinite(
            f"{bad} of {len(vector)} entries of a gradient or curvature product are NaN or infinite; "
            "check the surrogate's weights or retrain it with a lower surrogate.learning_rate"
        )
    return vector


def _dot(first: Tensor, second: Tensor) -> float:
    return torch.dot(first.double(), second.double()).item()
