"""The curvature G of the mean loss over some samples, as an operator: `curvature @ u` is G u."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from dealrec_core.influence import activations, operators
from dealrec_core.influence.activations import Activations
from dealrec_core.influence.drawn import Drawn
from dealrec_core.influence.operators import Problem
from dealrec_core.influence.part import spread
from dealrec_core.samples.sequences import Sequences
from dealrec_core.settings.influence import InfluenceConfig

Kind = Literal["gauss_newton", "hessian"]


@dataclass(frozen=True)
class Curvature:
    """Gauss-Newton matrix or Hessian (P, P), symmetric and never formed; a product runs over all its samples."""

    problem: Problem
    samples: Sequences
    kind: Kind = "gauss_newton"
    activations: Activations | None = None
    """Activations of the one layer that is differentiated, where they are stored: the network does not run again."""
    drawn: Drawn | None = None
    """Outputs that stand for all outputs, where a cheap product is enough."""

    def __matmul__(self, direction: Tensor) -> Tensor:
        """G u (P,)."""
        if self.kind == "hessian":
            return operators.hessian(self.problem, self.samples, direction)
        if self.activations is not None:
            return activations.gauss_newton(self.activations, direction)
        return operators.gauss_newton(self.problem, self.samples, direction, drawn=self.drawn)

    def take(self, rows: np.ndarray) -> "Curvature":
        """The curvature over the samples `rows` alone."""
        return Curvature(self.problem, self.samples.take(rows), self.kind)

    def directional(self, direction: Tensor) -> np.ndarray:
        """∇L(s)ᵀu of every sample, float64 (N,).

        Raises:
            NotFinite: a derivative is NaN or infinite; the message names its sample.
        """
        if self.activations is not None:
            return activations.directional(self.activations, direction)
        return operators.directional(self.problem, self.samples, direction)


def build(problem: Problem, samples: Sequences, *, config: InfluenceConfig, drawn: Drawn | None = None) -> Curvature:
    """The curvature of the settings over the samples; activations are stored where that pays."""
    pays = config.kept_mb and config.curvature == "gauss_newton" and config.solver in ("cg", "exact")
    stored = activations.store(problem, samples, most_bytes=config.kept_mb * 2**20, drawn=drawn) if pays else None
    return Curvature(problem, samples, config.curvature, stored, drawn)


def cheap(curvature: Curvature, *, config: InfluenceConfig) -> Curvature | None:
    """A cheap stand-in for the curvature: fewer samples, or fewer outputs of each. None where neither is cheap."""
    if config.solver != "cg" or config.curvature != "gauss_newton" or config.part_samples is None:
        return None
    problem, samples = curvature.problem, curvature.samples
    draws = problem.loss.width > 4 * config.part_outputs
    count = min(config.part_samples, problem.parameters.size)
    if draws:
        count = min(count, max(1, len(samples) // 4))
    elif len(samples) < 2 * count:
        return None
    part = spread(samples, count)
    drawn = operators.draw(problem, part, config.part_outputs) if draws else None
    return build(problem, part, config=config, drawn=drawn)
