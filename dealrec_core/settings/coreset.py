"""How many samples are chosen, and by which rule."""

from typing import Literal

from pydantic import Field

from dealrec_core.settings.section import Section

Fill = Literal["strata", "highest"]

Normalisation = Literal["rank", "minmax", "robust", "none"]

Method = Literal[
    "dealrec",
    "greedy",
    "random",
    "coverage",
    "ccs",
    "datainf",
    "dsir",
    "el2n",
    "goracs",
    "gradsim-diverse",
    "grand",
    "less",
    "rds",
    "recranker",
    "targeted",
    "tf-dcon",
]

MethodName = Literal[Method, "dealrec-released"]
NightlyMethod = Literal["auto", Method]


class _Budget(Section):
    ratio: float = Field(default=0.02, gt=0, le=1, title="Share of the samples")
    """Size of the coreset as a share of the train samples; about 2% in the paper. Raise it if recall still rises with more samples."""
    least: int = Field(default=1, ge=1, title="Least number of samples")
    """Smallest number of samples, whatever the share; with fewer samples all are chosen."""
    count: int | None = Field(default=None, ge=1, title="Number of samples")
    """Size of the coreset in samples; it replaces `ratio` and `least`. Set it if every night should cost the same."""
    tokens: int | None = Field(default=None, ge=1, title="Tokens of an epoch")
    """Size of the coreset in tokens of one epoch; it replaces `ratio`, `least` and `count`. Set it if titles differ much in length."""
    gpu_minutes: float | None = Field(default=None, gt=0, title="Minutes of tuning")
    """Size of the coreset in minutes of fine-tuning; it replaces all other sizes. Set it if the night has a deadline."""
    tokens_per_second: float | None = Field(default=None, gt=0, title="Speed of tuning")
    """Tokens that tuning reads in a second, with which `gpu_minutes` is converted. None uses the speed of the last night. Set it for the
    first night or a new machine."""
    groups: int = Field(default=50, ge=1, le=10_000, title="Groups K")
    """Number of strata of equal score width that method dealrec draws from; 25 to 75 in the paper. Fewer groups choose more high scores."""
    effort_weight: float = Field(default=0.3, ge=0, title="Effort weight lambda")
    """Weight of effort beside influence in the score of dealrec, greedy and coverage; 0.1 to 2 in the paper. Raise it to prefer samples
    that are hard for the language model. With 0, effort has no part in the score."""


class NightlyCoreset(_Budget):
    """How many samples are chosen, and by which rule."""

    method: NightlyMethod = Field(default="auto", title="Selection method")
    """Rule that chooses the coreset. auto: targeted if a comparison shows tonight that its coreset is better than random ones, otherwise
    random. targeted prefers samples whose target is popular now and whose influence on the ranking is high; dealrec is the paper's rule;
    greedy chooses the highest scores; coverage guarantees places for categories, popularity and recency; random is the baseline; the
    others are published methods with features of their own. Change it after `dealrec study` has compared the methods on your log."""
    least: int = Field(default=1024, ge=1, title="Least number of samples")
    """Smallest number of samples, whatever the share; with fewer samples all are chosen. The paper's 2% were 1,024, and
    a model learns little from a few hundred. Lower it for quick trials."""

    @property
    def tried(self) -> Method:
        """The method whose scores a night computes."""
        return "targeted" if self.method == "auto" else self.method


class CoresetConfig(_Budget):
    """All settings of a selection; a study sets those that a night does not have."""

    method: MethodName = Field(default="dealrec", title="Selection method")
    """Rule that chooses the coreset."""
    influence_weight: float = Field(default=1.0, ge=0, title="Influence weight")
    """Weight of influence in the score; 0 leaves influence out, for ablations."""
    normalisation: Normalisation | None = Field(default=None, title="Normalisation")
    """Scale of influence and effort before they are added: rank, minmax, robust (median and MAD) or none. None is the method's own:
    none for dealrec (paper), minmax for dealrec-released, rank for the others."""
    hard_prune: float | None = Field(default=None, ge=0, lt=1, title="Drop the top share")
    """Share of the highest scores that is dropped first. None is the method's own: 0.1 for dealrec-released, 0.3 for ccs, else 0."""
    coverage: float = Field(default=0.3, ge=0, le=1 / 3, title="Guaranteed share")
    """For method coverage: share of its proportional number of places that each class (of category, popularity or recency) gets."""
    fill: Fill = Field(default="strata", title="Rule beside the floors")
    """For method coverage: rule for the places that are not guaranteed, strata (Algorithm 2) or highest (the highest scores)."""
