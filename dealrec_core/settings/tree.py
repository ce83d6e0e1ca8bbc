"""Every setting of a night in one tree, as in deployments/pipeline.toml, and the algorithms' settings that follow from it."""

from dealrec_core.settings import language, recommenders
from dealrec_core.settings.coreset import CoresetConfig, NightlyCoreset
from dealrec_core.settings.evaluation import EvaluationConfig, GateConfig, NightlyEvaluation
from dealrec_core.settings.influence import InfluenceConfig, NightlyInfluence, of_method
from dealrec_core.settings.run import LakeConfig, RegistryConfig, RunConfig, UpkeepConfig
from dealrec_core.settings.samples import SamplesConfig
from dealrec_core.settings.section import Section
from dealrec_core.settings.sources import SourcesConfig
from dealrec_core.settings.surrogate import NightlySurrogate, SurrogateConfig

TIGER_ITEMS = 20
"""Newest items of a history that TIGER reads at a night, as in its paper; each is several tokens."""


class Algorithms(Section):
    """Settings of the algorithms: those of the night, and the defaults of everything that only a study sets."""

    surrogate: SurrogateConfig
    influence: InfluenceConfig
    effort: language.EffortConfig
    coreset: CoresetConfig
    language_model: language.LanguageModelConfig
    bigrec: recommenders.BIGRecConfig
    tiger: recommenders.TigerConfig
    semantic_ids: recommenders.SemanticIdsConfig
    fine_tune: language.FineTuneConfig
    evaluation: EvaluationConfig


class Config(Section):
    """All settings of a night, as in deployments/pipeline.toml."""

    sources: SourcesConfig
    run: RunConfig = RunConfig()
    lake: LakeConfig = LakeConfig()
    samples: SamplesConfig = SamplesConfig()
    surrogate: NightlySurrogate = NightlySurrogate()
    influence: NightlyInfluence = NightlyInfluence()
    effort: language.NightlyEffort = language.NightlyEffort()
    coreset: NightlyCoreset = NightlyCoreset()
    language_model: language.NightlyLanguageModel = language.NightlyLanguageModel()
    recommender: recommenders.NightlyRecommender = recommenders.NightlyRecommender()
    tiger: recommenders.NightlyTiger = recommenders.NightlyTiger()
    semantic_ids: recommenders.NightlySemanticIds = recommenders.NightlySemanticIds()
    fine_tune: language.NightlyFineTune = language.NightlyFineTune()
    evaluation: NightlyEvaluation = NightlyEvaluation()
    gate: GateConfig = GateConfig()
    registry: RegistryConfig = RegistryConfig()
    upkeep: UpkeepConfig = UpkeepConfig()

    @property
    def algorithms(self) -> Algorithms:
        """The settings that the algorithms take in this night: one history length, and one number of beams for both backends."""
        settings = self.model_dump(include=set(Algorithms.model_fields))
        length, recommender = self.samples.history_length, self.recommender
        settings["coreset"]["method"] = self.coreset.tried
        settings["surrogate"] |= {"history_length": length}
        settings["bigrec"] = recommender.model_dump(exclude={"backend", "titles"}) | {
            "history_length": recommender.titles
        }
        settings["tiger"] |= {"history_length": min(length, TIGER_ITEMS), "beams": recommender.beams}
        algorithms = Algorithms.model_validate(settings)
        return algorithms.model_copy(update={"influence": of_method(algorithms.influence, self.coreset.tried)})
