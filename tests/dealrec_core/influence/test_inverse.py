"""Solvers by hand, on operators that are diagonals."""

import numpy as np
import pytest
import torch

from dealrec_core import influence
from dealrec_core.errors import NotConverged, NotFinite, NumericsError


def test_the_released_recursion_tends_to_a_damping_of_a_quarter() -> None:
    """h = v + 0.99 h − G h / 25 has the fixed point (G + 0.25) h / 25 = v; with G = 0.35 it is v / 0.6."""
    v = torch.tensor([3.0, 6.0], dtype=torch.float64)
    found = influence.inverse.released(
        0.35 * torch.eye(2, dtype=v.dtype), lambda: 0.35 * torch.eye(2, dtype=v.dtype), v
    )
    np.testing.assert_allclose(found.q.numpy(), [5.0, 10.0])
    assert found.residual < 1e-12


def test_conjugate_gradients_on_a_diagonal_by_hand() -> None:
    """G = diag(3, 1, 0), v = (8, 4, 2), d = 1: q = (2, 2, 2); three different eigenvalues take three products."""
    weights = torch.tensor([3.0, 1.0, 0.0], dtype=torch.float64)
    v = torch.tensor([8.0, 4.0, 2.0], dtype=torch.float64)
    damping = influence.inverse.Damping(1 / 3, "top")
    found = influence.inverse.conjugate_gradients(
        torch.diag(weights), v, damping=damping, tolerance=1e-10, most_steps=9
    )
    np.testing.assert_allclose(found.q.numpy(), [2.0, 2.0, 2.0])
    assert (found.products, found.top, found.damping) == (3, pytest.approx(3.0), pytest.approx(1.0))


def test_directions_prepared_on_a_part_solve_the_whole_by_hand() -> None:
    """G = diag(3, 1, 0), v = (8, 4, 2), d = 1: q = (2, 2, 2), whatever the part is; with G itself one product does."""
    weights = torch.tensor([3.0, 1.0, 0.0], dtype=torch.float64)
    v = torch.tensor([8.0, 4.0, 2.0], dtype=torch.float64)
    damping = influence.inverse.Damping(1.0, "absolute")
    for part in (weights, torch.tensor([2.0, 2.0, 0.5], dtype=torch.float64)):
        found = influence.inverse.prepared(
            torch.diag(weights),
            torch.diag(part),
            v,
            damping=damping,
            tolerance=1e-9,
            most_steps=9,
        )
        np.testing.assert_allclose(found.q.numpy(), [2.0, 2.0, 2.0], rtol=1e-8)
        assert found.residual <= 1e-9
        assert (weights * found.q + found.q - v).norm() <= 1e-8 * v.norm()


def test_too_many_cheap_products_for_a_direction_say_what_to_raise(monkeypatch) -> None:
    monkeypatch.setattr(influence.inverse, "MOST_CHEAP", 1)
    weights = torch.tensor([3.0, 1.0, 0.0], dtype=torch.float64)
    damping = influence.inverse.Damping(0.5, "absolute")
    with pytest.raises(
        NotConverged, match=r"accurate enough after 1 cheap products at damping 5.0e-01; raise influence.damping"
    ):
        influence.inverse.prepared(
            torch.diag(weights), torch.diag(weights), weights + 1, damping=damping, tolerance=1e-3, most_steps=9
        )


@pytest.mark.parametrize(("samples", "mean"), [(2, 2.0), (3, 4 / 3), (9, 4 / 3)])
def test_the_mean_eigenvalue_is_over_weights_or_samples_whichever_are_fewer(samples: int, mean: float) -> None:
    """G = diag(3, 1, 0): a probe of signs gives the trace of a diagonal exactly."""
    weights = torch.tensor([3.0, 1.0, 0.0], dtype=torch.float64)
    found, products = influence.inverse.mean_eigenvalue(torch.diag(weights), weights, samples=samples)
    assert (found, products) == (pytest.approx(mean), 3)


def test_the_trace_of_a_full_matrix_is_found_to_a_twentieth() -> None:
    """Two large eigenvalues among 40, so that single probes differ by half of the trace."""
    basis, _ = torch.linalg.qr(torch.randn(40, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    dense = (basis * torch.tensor([9.0, 7.0] + [0.1] * 38, dtype=torch.float64)) @ basis.T
    found, _ = influence.inverse.mean_eigenvalue(dense, dense[0], samples=1000)
    assert found == pytest.approx(19.8 / 40, rel=influence.inverse.TRACE_TOLERANCE)


def test_a_singular_operator_is_named() -> None:
    """G = diag(1, 0) with a damping that vanishes beside it."""
    weights = torch.tensor([1.0, 0.0], dtype=torch.float64)
    damping = influence.inverse.Damping(1e-15, "absolute")
    v = torch.ones(2, dtype=torch.float64)
    with pytest.raises(NumericsError, match=r"operator is singular: eigenvalue .* raise influence.damping"):
        influence.inverse.exact(torch.diag(weights), v, damping=damping)
    with pytest.raises(NumericsError, match=r"operator is singular: eigenvalue .* raise influence.damping"):
        influence.inverse.conjugate_gradients(torch.diag(weights), v, damping=damping, tolerance=1e-9, most_steps=5)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_product_that_is_not_finite_is_named(bad: float) -> None:
    damping = influence.inverse.Damping(1.0, "absolute")
    v = torch.ones(3, dtype=torch.float64)
    with pytest.raises(
        NotFinite, match=r"3 of 3 entries of a gradient or curvature product are NaN or infinite; check"
    ):
        influence.inverse.prepared(
            bad * torch.ones(3, 3, dtype=v.dtype),
            torch.eye(3, dtype=v.dtype),
            v,
            damping=damping,
            tolerance=1e-3,
            most_steps=5,
        )


def test_a_risk_without_gradient_is_named() -> None:
    with pytest.raises(NumericsError, match=r"gradient is exactly 0.*choose another influence.risk"):
        influence.inverse.identity(torch.zeros(3))
