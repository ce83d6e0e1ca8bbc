"""Influence of every sample on a risk: gradient products, inverse-Hessian solvers, scores."""

from dealrec_core.influence.scores import InfluenceConfig, InfluenceResult, score

__all__ = ["InfluenceConfig", "InfluenceResult", "score"]
