"""How the influence of a sample is computed."""

from typing import Literal

from pydantic import Field

from dealrec_core.settings.section import Section

DampingRule = Literal["trace", "top", "absolute"]

LossName = Literal["softmax", "sampled", "bce"]

Objective = Literal["loss", "ranking"]

Precision = Literal["float32", "bf16"]

NightlySolver = Literal["cg", "identity"]

Solver = Literal[NightlySolver, "lissa", "exact", "released"]


class _Scoring(Section):
    risk: Literal["recent", "validation", "train"] = Field(default="validation", title="Risk")
    """Samples whose mean loss is the risk: the validation slice, its most recent half (for a log that drifts quickly), or train (paper)."""
    loss: LossName = Field(default="sampled", title="Loss")
    """Loss of a sample. sampled: softmax, in a catalogue of more than `negatives` items over fixed ones that stand for all; softmax: over
    the whole catalogue, at a cost of samples times items; bce: binary, with fixed negatives."""
    negatives: int = Field(default=8192, ge=1, title="Negatives")
    """Number of fixed random items in the sampled and bce losses; sampled draws them by the surrogate. More are more exact and slower."""
    solver: Solver = Field(default="cg", title="Solver")
    """Method that inverts the curvature."""
    damping: float = Field(default=5.0, gt=0, title="Damping")
    """Number added to every eigenvalue, in multiples of their mean. Raise it when the solver does not converge: larger is blunter."""
    tolerance: float = Field(default=0.03, gt=0, lt=1, title="Tolerance")
    """Largest residual of the solution, relative to the risk's gradient. Lower it for more exact scores; their order hardly changes."""
    most_residual: float = Field(default=0.7, ge=0, lt=1, title="Most residual of an earlier solution")
    """Residual above which an earlier night's solution is corrected and all scores computed again, because the risk samples are others.
    Lower it for fresher scores. When half of the risk samples are others, scores change no more than with another seed of the surrogate."""
    batch_tokens: int = Field(default=4096, ge=1, title="Batch size in items")
    """Items of histories in one batch. It bounds the memory and changes no score; lower it when memory runs out."""


class NightlyInfluence(_Scoring):
    """How a night computes what leaving a sample out would do to the surrogate's risk."""

    solver: NightlySolver = Field(default="cg", title="Solver")
    """Method that inverts the curvature: cg (conjugate gradients), or identity, which ignores the curvature and is cheapest."""


class InfluenceConfig(_Scoring):
    """All settings of influence; a study sets those that a night does not have."""

    solver: Solver = Field(default="cg", title="Solver")
    """Method that inverts the curvature: cg for any size, exact for few parameters, identity for none; lissa and released to compare."""
    parameters: str = Field(default="all", title="Parameters", pattern=r"^(all|released|layer:.+)$")
    """Weights that are differentiated: all, layer:<name>, or released (one weight)."""
    curvature: Literal["gauss_newton", "hessian"] = Field(default="gauss_newton", title="Curvature")
    """Matrix that is inverted. The Hessian may have negative eigenvalues; they are detected, not repaired."""
    target: Literal["included", "released"] = Field(default="included", title="Target")
    """Item that a sample predicts. released: as in the released code the history's last item; a history of one item scores 0."""
    objective: Objective | None = Field(default=None, title="Objective")
    """Risk samples that count. loss: all of them (paper); ranking: those whose target the surrogate ranks among its first 100, because what
    helps the many targets that no list can hold makes lists worse. None: ranking for method targeted, loss for the others."""
    reach: int = Field(default=100, ge=1, title="Reach")
    """Places of the surrogate's ranking within which a target counts for the objective ranking. Raise it when few samples count."""
    lissa_samples: int = Field(default=4096, ge=1, title="Batch of lissa")
    """Samples in each step of lissa."""
    curvature_samples: int | None = Field(default=None, ge=1, title="Samples of the curvature")
    """Number of train samples, drawn once, that the curvature and its residual are averaged over; None uses all. Fewer are cheaper."""
    part_samples: int | None = Field(default=16384, ge=1, title="Samples of cheap products")
    """Size of the subsample of train samples that preconditions conjugate gradients. It is capped at the number of weights, and at a
    quarter of the train samples if outputs are sampled. Larger is slower per step but needs fewer full passes. None: no preconditioner."""
    part_outputs: int = Field(default=16, ge=2, title="Outputs of cheap products")
    """Outputs of each of those samples, drawn by probability. Fewer than four times as many are used whole."""
    damping_rule: DampingRule = Field(default="trace", title="Damping rule")
    """Unit of the damping. trace: multiples of the mean eigenvalue, over as many as there are weights or samples,
    whichever are fewer. top: a share of the largest eigenvalue. absolute: the number itself."""
    most_steps: int = Field(default=100, ge=1, title="Most products")
    """Number of curvature products over all samples after which cg gives up."""
    precision: Precision = Field(default="float32", title="Precision")
    """Precision of the network's matrix products: bf16 rounds them to bfloat16; sums, losses and solvers stay in float32."""


def of_method(config: InfluenceConfig, method: str) -> InfluenceConfig:
    """The settings with the objective of a selection method, where they name none."""
    own: Objective = "ranking" if method == "targeted" else "loss"
    return config if config.objective else config.model_copy(update={"objective": own})
