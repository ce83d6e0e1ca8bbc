"""Settings of a study: grids of methods, backends, surrogates, data sets, ratios and seeds, from one TOML file."""

import itertools
from typing import Any, Literal, NamedTuple

from pydantic import Field

from dealrec_core.coreset.methods import METHODS, NEEDS
from dealrec_core.errors import SettingsError
from dealrec_core.settings.coreset import CoresetConfig
from dealrec_core.settings.evaluation import EvaluationConfig
from dealrec_core.settings.influence import InfluenceConfig, of_method
from dealrec_core.settings.language import EffortConfig, FineTuneConfig, LanguageModelConfig, PromptConfig
from dealrec_core.settings.recommenders import BIGRecConfig, SemanticIdsConfig, TigerConfig
from dealrec_core.settings.run import TrackingUri
from dealrec_core.settings.section import Section
from dealrec_core.settings.surrogate import EarlyConfig, NetworkName, SurrogateConfig

BackendName = Literal["bigrec", "tiger", "proxy"]
Judges = Literal["all", "choosing", "judging"]
OF_SURROGATE = frozenset({"influence", "user"})
"""Features that change with the surrogate network."""


class DatasetConfig(Section):
    """Where samples come from and how much of them is judged."""

    kind: Literal["released", "night"] = "released"
    """released: a folder in the format of DEALRec's release; night: the samples of a night in a lake."""
    folder: str = ""
    """Folder of a data set in the released format."""
    config: str = "deployments/pipeline.toml"
    """Settings file of the night's lake."""
    night: str | None = None
    """Name of the night; None means the newest one with samples."""
    history_length: int = Field(default=20, ge=1)
    users: int | None = Field(default=None, ge=1)
    """Held-out users at most, drawn once among those that `judges` names; None means all of them."""
    risk_samples: int = Field(default=4000, ge=1)
    """Most recent held-out samples for influence and aims, drawn once."""
    prompt: PromptConfig = PromptConfig()


class VariantConfig(Section):
    """A selection method with settings of its own, for ablations."""

    method: str
    coreset: dict[str, Any] = Field(default={})
    """Keys of `coreset` in pipeline.toml, for instance groups = 25."""
    influence: str = "default"
    """Name below [influences]."""


class GridConfig(Section):
    """All combinations of these are cells."""

    datasets: list[str]
    backends: list[BackendName] = Field(default=["bigrec", "tiger"])
    surrogates: list[NetworkName] = Field(default=["sasrec"])
    methods: list[str]
    """Names of methods or variants."""
    ratios: list[float] = Field(default=[0.02])
    seeds: list[int] = Field(default=[0])


class PrimaryConfig(Section):
    """The one question about a backend, written down before its cells run: does the method beat the reference?"""

    dataset: str
    method: str
    """Name of a method or variant."""
    ratio: float = Field(default=0.02, gt=0, le=1)


class ProxyConfig(Section):
    """The cheap stand-in for a tuned model: a small surrogate trained on the coreset alone."""

    width: int = Field(default=32, ge=2)
    epochs: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=5e-3, gt=0)


class StudyConfig(Section):
    """All settings of a study."""

    name: str
    """Name of the folder, below `folder`, that gets the tables."""
    folder: str
    """Folder of cells and shared models. Studies of one folder share them, so no cell runs twice for two questions."""
    reference: str = "random"
    """Method that every other method is compared with."""
    metric: Literal["recall", "ndcg", "mrr"] = "ndcg"
    """Metric that decides."""
    cutoff: int = Field(default=100, ge=1, le=1000)
    """List length of the metric that decides. Lists of 100 need 1.5 to 3.6 times fewer users than lists of 10 to show the same gain.
    The figures at `evaluation.k` are read off the same lists, as a confirmation."""
    primary: dict[BackendName, PrimaryConfig] = Field(default={})
    """The primary question of each backend. Its p stands as it is; Holm's correction covers all other comparisons."""
    judges: Judges = "judging"
    """Held-out users that cells are measured on. A hash of the seed and the user's id splits them once: rules and constants are
    tried on the choosing half, and answers come from the judging half, which has chosen nothing."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device that trains and evaluates; auto takes a GPU when there is one. Cells of both devices count as equal, and a study that was
    prepared on a CPU continues on a GPU; each cell records its device."""
    seed: int = 0
    """Seed of everything that cells share: base models, surrogates, features, held-out users."""
    pretraining_epochs: int = Field(default=4, ge=1)
    """Number of epochs of TIGER's base, on the older half of the histories."""
    tuning_rate: float | None = Field(default=None, gt=0)
    """TIGER's learning rate when it is tuned on a coreset; None uses that of its base."""
    gradient_width: int = Field(default=16, ge=1)
    """Rows that each LoRA gradient is projected to."""
    aims: int = Field(default=256, ge=1)
    """Recent samples that methods with an aim aim at."""
    datasets: dict[str, DatasetConfig]
    grids: dict[str, GridConfig] = Field(default={})
    only: list[str] = Field(default=[])
    """Grids to run and to show; all when empty."""
    variants: dict[str, VariantConfig] = Field(default={})
    influences: dict[str, InfluenceConfig] = Field(default={})
    influence: InfluenceConfig = InfluenceConfig()
    surrogate: SurrogateConfig = SurrogateConfig()
    early: EarlyConfig = EarlyConfig()
    effort: EffortConfig = EffortConfig()
    coreset: CoresetConfig = CoresetConfig()
    language_model: LanguageModelConfig = LanguageModelConfig()
    bigrec: BIGRecConfig = BIGRecConfig()
    fine_tune: FineTuneConfig = FineTuneConfig()
    semantic_ids: SemanticIdsConfig = SemanticIdsConfig()
    tiger: TigerConfig = TigerConfig()
    proxy: ProxyConfig = ProxyConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    experiment: str = "dealrec-study"
    """MLflow experiment of the cells."""
    tracking_uri: TrackingUri | None = None
    """MLflow server or SQLite file; None leaves MLflow out."""

    def variant(self, name: str) -> VariantConfig:
        """The variant of that name; a method's name is the method as it is.

        Raises:
            SettingsError: there is neither.
        """
        if name in self.variants:
            return self.variants[name]
        if name not in METHODS:
            known = ", ".join([*METHODS, *self.variants])
            raise SettingsError(f"no selection method or variant '{name}'; there are {known}")
        return VariantConfig(method=name)

    def selection(self, cell: "Cell") -> CoresetConfig:
        """The coreset settings of a cell."""
        own = self.variant(cell.method).coreset
        return CoresetConfig.model_validate({**self.coreset.model_dump(), "ratio": cell.ratio, **own})

    def influence_of(self, cell: "Cell") -> InfluenceConfig:
        """The influence settings of a cell.

        Raises:
            SettingsError: its variant names one that is not there.
        """
        name = self.variant(cell.method).influence
        method = self.variant(cell.method).method
        if name == "default":
            return of_method(self.influence, method)
        if name not in self.influences:
            raise SettingsError(f"no [influences.{name}]; there are {', '.join(self.influences) or 'none'}")
        return of_method(self.influences[name], method)


class Cell(NamedTuple):
    """One run of selection, tuning and evaluation."""

    dataset: str
    backend: BackendName
    surrogate: str
    """'none' where the method asks nothing of it."""
    method: str
    ratio: float
    seed: int

    @property
    def name(self) -> str:
        """Fit for a file: games-tiger-sasrec-dealrec-0.02-0."""
        return "-".join([*self[:4], f"{self.ratio:g}", str(self.seed)])


def cells(config: StudyConfig) -> list[Cell]:
    """Every cell of every grid once, seeds outermost, so that a study that is stopped has whole comparisons.

    Raises:
        SettingsError: there is no grid, `only` names none, or a grid or a primary question a data set or a method that is not there.
    """
    if not config.grids:
        raise SettingsError(
            "this study has no grid; name a file with [grids.<name>], for instance deployments/studies/rq1.toml"
        )
    chosen: dict[Cell, None] = {}
    for name in config.only or config.grids:
        if name not in config.grids:
            raise SettingsError(f"no [grids.{name}]; there are {', '.join(config.grids)}")
        grid = config.grids[name]
        for dataset in grid.datasets:
            if dataset not in config.datasets:
                there_are = f"there are {', '.join(config.datasets)}"
                raise SettingsError(f"grids.{name} names the data set '{dataset}'; {there_are}")
        axes = (grid.seeds, grid.datasets, grid.ratios, grid.methods, grid.backends, grid.surrogates)
        for seed, dataset, ratio, method, backend, surrogate in itertools.product(*axes):
            asked = OF_SURROGATE & set(NEEDS[config.variant(method).method])
            chosen[Cell(dataset, backend, surrogate if asked else "none", method, ratio, seed)] = None
    _check_primary(config)
    return sorted(chosen, key=lambda cell: cell.seed)


def _check_primary(config: StudyConfig) -> None:
    for backend, question in config.primary.items():
        config.variant(question.method)
        if question.dataset not in config.datasets:
            there_are = f"there are {', '.join(config.datasets)}"
            raise SettingsError(f"primary.{backend} names the data set '{question.dataset}'; {there_are}")
