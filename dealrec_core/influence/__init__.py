"""Influence of every sample on a risk: `influence.score` for next-item models, `influence.score_module` for any torch module."""

from dealrec_core.influence.kernels import differentiable
from dealrec_core.influence.modules import SampleLoss, score_module
from dealrec_core.influence.scores import InfluenceResult, score
from dealrec_core.settings.influence import InfluenceConfig
from dealrec_core.surrogate.base import NextItemModel

__all__ = [
    "InfluenceConfig",
    "InfluenceResult",
    "NextItemModel",
    "SampleLoss",
    "differentiable",
    "score",
    "score_module",
]
