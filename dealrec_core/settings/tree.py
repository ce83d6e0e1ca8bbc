"""Every setting of a night in one tree, as in deployments/pipeline.toml."""

from pydantic import Field

from dealrec_core.settings.coreset import CoresetConfig
from dealrec_core.settings.evaluation import EvaluationConfig, GateConfig
from dealrec_core.settings.influence import InfluenceConfig
from dealrec_core.settings.language import EffortConfig, FineTuneConfig, LanguageModelConfig
from dealrec_core.settings.recommenders import RecommenderConfig, SemanticIdsConfig, TigerConfig
from dealrec_core.settings.run import LakeConfig, RegistryConfig, RunConfig, UpkeepConfig
from dealrec_core.settings.samples import SamplesConfig
from dealrec_core.settings.section import Section
from dealrec_core.settings.sources import SourcesConfig
from dealrec_core.settings.surrogate import SurrogateConfig


class Config(Section):
    """All settings of a night, as in deployments/pipeline.toml."""

    sources: SourcesConfig
    run: RunConfig = Field(default=RunConfig())
    lake: LakeConfig = Field(default=LakeConfig())
    samples: SamplesConfig = Field(default=SamplesConfig())
    surrogate: SurrogateConfig = Field(default=SurrogateConfig())
    influence: InfluenceConfig = Field(default=InfluenceConfig())
    effort: EffortConfig = Field(default=EffortConfig())
    coreset: CoresetConfig = Field(default=CoresetConfig())
    language_model: LanguageModelConfig = Field(default=LanguageModelConfig())
    recommender: RecommenderConfig = Field(default=RecommenderConfig())
    tiger: TigerConfig = Field(default=TigerConfig())
    semantic_ids: SemanticIdsConfig = Field(default=SemanticIdsConfig())
    fine_tune: FineTuneConfig = Field(default=FineTuneConfig())
    evaluation: EvaluationConfig = Field(default=EvaluationConfig())
    gate: GateConfig = Field(default=GateConfig())
    registry: RegistryConfig = Field(default=RegistryConfig())
    upkeep: UpkeepConfig = Field(default=UpkeepConfig())
