"""Every setting of a night in one tree, as in deployments/pipeline.toml, and the algorithms' settings that follow from it."""

from typing import TypeVar

from pydantic import Field

from dealrec_core.settings.coreset import CoresetConfig, NightlyCoreset
from dealrec_core.settings.evaluation import EvaluationConfig, GateConfig, NightlyEvaluation
from dealrec_core.settings.influence import InfluenceConfig, NightlyInfluence
from dealrec_core.settings.language import (
    EffortConfig,
    FineTuneConfig,
    LanguageModelConfig,
    NightlyEffort,
    NightlyFineTune,
    NightlyLanguageModel,
)
from dealrec_core.settings.recommenders import (
    BIGRecConfig,
    NightlyRecommender,
    NightlySemanticIds,
    NightlyTiger,
    SemanticIdsConfig,
    TigerConfig,
)
from dealrec_core.settings.run import LakeConfig, RegistryConfig, RunConfig, UpkeepConfig
from dealrec_core.settings.samples import SamplesConfig
from dealrec_core.settings.section import Section
from dealrec_core.settings.sources import SourcesConfig
from dealrec_core.settings.surrogate import NightlySurrogate, SurrogateConfig

AlgorithmConfig = TypeVar("AlgorithmConfig", bound=Section)
TIGER_ITEMS = 20
"""Newest items of a history that TIGER reads at a night, as in its paper; each is several tokens."""


class Algorithms(Section):
    """What the algorithms take: the night's settings, and the defaults of everything that only a study sets."""

    surrogate: SurrogateConfig
    influence: InfluenceConfig
    effort: EffortConfig
    coreset: CoresetConfig
    language_model: LanguageModelConfig
    bigrec: BIGRecConfig
    tiger: TigerConfig
    semantic_ids: SemanticIdsConfig
    fine_tune: FineTuneConfig
    evaluation: EvaluationConfig


class Config(Section):
    """All settings of a night, as in deployments/pipeline.toml."""

    sources: SourcesConfig
    run: RunConfig = Field(default=RunConfig())
    lake: LakeConfig = Field(default=LakeConfig())
    samples: SamplesConfig = Field(default=SamplesConfig())
    surrogate: NightlySurrogate = Field(default=NightlySurrogate())
    influence: NightlyInfluence = Field(default=NightlyInfluence())
    effort: NightlyEffort = Field(default=NightlyEffort())
    coreset: NightlyCoreset = Field(default=NightlyCoreset())
    language_model: NightlyLanguageModel = Field(default=NightlyLanguageModel())
    recommender: NightlyRecommender = Field(default=NightlyRecommender())
    tiger: NightlyTiger = Field(default=NightlyTiger())
    semantic_ids: NightlySemanticIds = Field(default=NightlySemanticIds())
    fine_tune: NightlyFineTune = Field(default=NightlyFineTune())
    evaluation: NightlyEvaluation = Field(default=NightlyEvaluation())
    gate: GateConfig = Field(default=GateConfig())
    registry: RegistryConfig = Field(default=RegistryConfig())
    upkeep: UpkeepConfig = Field(default=UpkeepConfig())

    @property
    def algorithms(self) -> Algorithms:
        """The settings that the algorithms take in this night: one history length, and one number of beams for both backends."""
        length, recommender = self.samples.history_length, self.recommender
        return Algorithms(
            surrogate=_filled(SurrogateConfig, self.surrogate, history_length=length),
            influence=_filled(InfluenceConfig, self.influence),
            effort=_filled(EffortConfig, self.effort),
            coreset=_filled(CoresetConfig, self.coreset),
            language_model=_filled(LanguageModelConfig, self.language_model),
            bigrec=_filled(BIGRecConfig, recommender, {"backend", "titles"}, history_length=recommender.titles),
            tiger=_filled(TigerConfig, self.tiger, history_length=min(length, TIGER_ITEMS), beams=recommender.beams),
            semantic_ids=_filled(SemanticIdsConfig, self.semantic_ids),
            fine_tune=_filled(FineTuneConfig, self.fine_tune),
            evaluation=_filled(EvaluationConfig, self.evaluation),
        )


def _filled(
    kind: type[AlgorithmConfig], section: Section, dropped: set[str] | None = None, **derived: int
) -> AlgorithmConfig:
    return kind.model_validate({**section.model_dump(exclude=dropped), **derived})
