"""The curvature G of the mean loss over some samples, as an operator: `curvature @ u` is G u."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from dealrec_core.influence import operators
from dealrec_core.influence.drawn import Drawn
from dealrec_core.influence.operators import Problem
from dealrec_core.samples.rolling_hash import spread
from dealrec_core.samples.sequences import Sequences
from dealrec_core.settings.influence import InfluenceConfig

Kind = Literal["gauss_newton", "hessian"]


@dataclass(frozen=True)
class Curvature:
    """Gauss-Newton matrix or Hessian (P, P), symmetric and never formed; a product runs over all its samples."""

    problem: Problem
    samples: Sequences
    kind: Kind = "gauss_newton"
    drawn: Drawn | None = None
    """Outputs that stand for all outputs, where a cheap product is enough."""

    def __matmul__(self, direction: Tensor) -> Tensor:
        """G u (P,)."""
        if self.kind == "hessian":
            return operators.hessian(self.problem, self.samples, direction)
        return operators.gauss_newton(self.problem, self.samples, direction, drawn=self.drawn)

    def take(self, rows: np.ndarray) -> "Curvature":
        """The curvature over the samples `rows` alone."""
        return Curvature(self.problem, self.samples.take(rows), self.kind)


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
    return Curvature(problem, part, drawn=drawn)
