"""Influence of every sample on a risk: `influence.score` with its settings and its result."""

from dealrec_core.influence.scores import InfluenceResult, score
from dealrec_core.settings.influence import InfluenceConfig

__all__ = ["InfluenceConfig", "InfluenceResult", "score"]
