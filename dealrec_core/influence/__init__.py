"""Influence of every sample on a risk: gradient products, inverse-Hessian solvers, scores."""

from dealrec_core.influence.scores import InfluenceResult, score
from dealrec_core.settings.influence import InfluenceConfig

__all__ = ["InfluenceConfig", "InfluenceResult", "score"]
