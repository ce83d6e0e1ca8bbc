"""How many samples are chosen, and by which rule."""

from typing import Literal

from pydantic import Field

from dealrec_core.settings.section import Section

Fill = Literal["strata", "highest"]

Normalisation = Literal["rank", "minmax", "robust", "none"]

MethodName = Literal[
    "dealrec",
    "dealrec-released",
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
    "tf-dcon",
]


class CoresetConfig(Section):
    """How many samples are chosen, and by which rule."""

    method: MethodName = Field(default="dealrec", title="Method")
    """dealrec: the paper's; dealrec-released: groups as in the released code; greedy: the highest scores; coverage: ours,
    with floors for categories, popularity and recency; random: by luck; the others are rivals and cost features of their own."""
    ratio: float = Field(default=0.02, gt=0, le=1, title="Share of the samples")
    """The paper takes about 2%."""
    count: int | None = Field(default=None, ge=1, title="Number of samples")
    """Wins over the share; the paper takes 1,024."""
    tokens: int | None = Field(default=None, ge=1, title="Tokens of an epoch")
    """Wins over share and number: as many samples as their prompts and answers fit into so many tokens."""
    gpu_minutes: float | None = Field(default=None, gt=0, title="Minutes of tuning")
    """Wins over all: tokens from the speed below and the epochs of fine-tuning."""
    tokens_per_second: float | None = Field(default=None, gt=0, title="Speed of tuning")
    """For `gpu_minutes`; None takes what the last night's fine-tuning measured."""
    groups: int = Field(default=50, ge=1, le=10_000, title="Groups K")
    """Strata of equal score width; 25 to 75 in the paper."""
    influence_weight: float = Field(default=1.0, ge=0, title="Influence weight")
    """0 leaves influence out, for ablations."""
    effort_weight: float = Field(default=0.3, ge=0, title="Effort weight lambda")
    """0.1 to 2 in the paper, 0.3 on Games."""
    normalisation: Normalisation = Field(default="rank", title="Normalisation")
    """Before influence and effort are added: rank, minmax (released code), robust (median and MAD) or none (paper)."""
    hard_prune: float = Field(default=0.0, ge=0, lt=1, title="Drop the top share")
    """The released code drops the top tenth by score (0.1); the paper does not."""
    coverage: float = Field(default=0.3, ge=0, le=1 / 3, title="Guaranteed share")
    """Of `coverage`: the share of its proportional number that every category, popularity and recency class gets."""
    fill: Fill = Field(default="strata", title="Rule beside the floors")
    """Of `coverage`: strata (Algorithm 2) or highest (the highest scores)."""
