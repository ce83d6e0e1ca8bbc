"""What a study compares: grids of methods, backends, surrogates, data sets, ratios and seeds, from one TOML file."""

import hashlib
import itertools
import json
from typing import Any, Literal, NamedTuple

from pydantic import Field

from dealrec_core.coreset.methods import METHODS, NEEDS
from dealrec_core.errors import SettingsError
from dealrec_core.settings.coreset import CoresetConfig
from dealrec_core.settings.evaluation import EvaluationConfig
from dealrec_core.settings.influence import InfluenceConfig
from dealrec_core.settings.language import EffortConfig, FineTuneConfig, LanguageModelConfig, PromptConfig
from dealrec_core.settings.recommenders import BIGRecConfig, SemanticIdsConfig, TigerConfig
from dealrec_core.settings.run import TrackingUri
from dealrec_core.settings.section import Section
from dealrec_core.settings.surrogate import EarlyConfig, NetworkName, SurrogateConfig

BackendName = Literal["bigrec", "tiger", "proxy"]
FORMAT = 3
"""Counts up when the same settings come to mean something else, so that no old cell or shared model is taken for a new one."""
OF_SURROGATE = frozenset({"influence", "user"})
"""Features that change with the surrogate network."""


class DatasetConfig(Section):
    """Where samples come from and how much of them is judged."""

    kind: Literal["released", "night"] = "released"
    """released: a folder in the format of DEALRec's release; night: the samples of a night in a lake."""
    folder: str = ""
    """Of the released format."""
    config: str = "deployments/pipeline.toml"
    """Settings file of the night's lake."""
    night: str | None = None
    """Name of the night; the newest with samples when left out."""
    history_length: int = Field(default=20, ge=1)
    users: int | None = Field(default=1000, ge=1)
    """Held-out users at most, drawn once."""
    risk_samples: int = Field(default=4000, ge=1)
    """Most recent held-out samples that influence and aims are taken on, drawn once."""
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


class ProxyConfig(Section):
    """The cheap stand-in for a tuned model: a small surrogate trained on the coreset alone."""

    width: int = Field(default=32, ge=2)
    epochs: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=5e-3, gt=0)


class StudyConfig(Section):
    """All settings of a study."""

    name: str
    folder: str
    """Where cells, shared models and tables are kept."""
    reference: str = "random"
    """What every method is compared with."""
    metric: Literal["recall", "ndcg", "mrr", "log_likelihood"] = "ndcg"
    resamples: int = Field(default=4000, ge=100)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    seed: int = 0
    """Of all that cells share: base models, surrogates, features, held-out users."""
    pretraining_epochs: int = Field(default=4, ge=1)
    """Of TIGER's base, on the older half of the histories."""
    tuning_rate: float | None = Field(default=None, gt=0)
    """TIGER's learning rate when it is tuned on a coreset; None takes that of its base."""
    gradient_width: int = Field(default=16, ge=1)
    """Rows that each LoRA gradient is projected to."""
    aims: int = Field(default=256, ge=1)
    """Recent samples that methods with an aim aim at."""
    datasets: dict[str, DatasetConfig]
    grids: dict[str, GridConfig]
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
        if name == "default":
            return self.influence
        if name not in self.influences:
            raise SettingsError(f"no [influences.{name}]; there are {', '.join(self.influences) or 'none'}")
        return self.influences[name]


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
        SettingsError: `only` names no grid, or a grid a data set or a method that is not there.
    """
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
    return sorted(chosen, key=lambda cell: cell.seed)


def fingerprint(config: StudyConfig, cell: Cell) -> str:
    """16 hex digits over the settings that this cell depends on: with others it is another cell."""
    sections = {"evaluation", "seed"} | {
        "bigrec": {"language_model", "bigrec", "fine_tune"},
        "tiger": {"semantic_ids", "tiger", "fine_tune", "pretraining_epochs", "tuning_rate"},
        "proxy": {"proxy", "language_model", "bigrec"},
    }[cell.backend]
    needs = set(NEEDS[config.variant(cell.method).method])
    if needs & {"influence", "user", "el2n", "grand"}:
        sections |= {"surrogate"}
    if needs & {"el2n", "grand"}:
        sections |= {"early"}
    if "effort" in needs:
        sections |= {"effort"}
    if needs & {"gradient", "adam_gradient", "layer_gradients"}:
        sections |= {"gradient_width", "aims"}
    described = {
        "format": FORMAT,
        "cell": list(cell),
        "dataset": config.datasets[cell.dataset].model_dump(),
        "selection": config.selection(cell).model_dump(),
        "influence": config.influence_of(cell).model_dump() if "influence" in needs else None,
        "settings": config.model_dump(include=sections),
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]
