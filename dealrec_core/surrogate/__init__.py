"""Surrogate networks: small recommenders whose gradients stand in for the language model's."""

from dealrec_core.surrogate.base import Surrogate, grown, realigned
from dealrec_core.surrogate.recommender import SurrogateRecommender
from dealrec_core.surrogate.training import SurrogateConfig, Trained, train

__all__ = ["Surrogate", "SurrogateConfig", "SurrogateRecommender", "Trained", "grown", "realigned", "train"]
