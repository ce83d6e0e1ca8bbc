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
    """Loss of a sample. sampled: softmax over the catalogue, or, if it has more items than `negatives`, over that many drawn items with
    weights; softmax: always over the whole catalogue, which takes samples times items; bce: binary, with fixed negatives."""
    negatives: int = Field(default=8192, ge=1, title="Negatives")
    """Number of fixed random items in the losses sampled and bce; sampled draws items to which the surrogate gives a high probability. More
    items are more exact and slower."""
    solver: Solver = Field(default="cg", title="Solver")
    """Method that inverts the curvature."""
    damping: float = Field(default=5.0, gt=0, title="Damping")
    """Number added to every eigenvalue of the curvature, in multiples of their mean. Raise it if the solver does not converge. With a
    larger number, scores depend less on the curvature."""
    tolerance: float = Field(default=0.03, gt=0, lt=1, title="Tolerance")
    """Largest residual of the solution, relative to the risk's gradient. Lower it for more exact scores; their order hardly changes."""
    most_residual: float = Field(default=0.7, ge=0, lt=1, title="Most residual of an earlier solution")
    """Residual above which the solution of an earlier night is corrected and all scores are computed again, because other samples are the
    risk now. Lower it for fresher scores. If half of the risk samples are new, scores change no more than with another seed of the
    surrogate."""
    batch_tokens: int = Field(default=4096, ge=1, title="Batch size in items")
    """Items of histories in one batch. It limits the memory and changes no score. Lower it if memory runs out."""


class NightlyInfluence(_Scoring):
    """How a night estimates what would happen to the surrogate's risk if a sample were left out."""

    solver: NightlySolver = Field(default="cg", title="Solver")
    """Method that inverts the curvature: cg (conjugate gradients), or identity, which ignores the curvature and is cheapest."""


class InfluenceConfig(_Scoring):
    """All settings of influence; a study sets those that a night does not have."""

    solver: Solver = Field(default="cg", title="Solver")
    """Method that inverts the curvature: cg for any size, exact for few parameters, identity to ignore the curvature; lissa and released
    for comparisons."""
    parameters: str = Field(default="all", title="Parameters", pattern=r"^(all|released|layer:.+)$")
    """Weights that are differentiated: all, layer:<name>, or released (one weight)."""
    curvature: Literal["gauss_newton", "hessian"] = Field(default="gauss_newton", title="Curvature")
    """Matrix that is inverted. The Hessian may have negative eigenvalues; they are detected, not repaired."""
    target: Literal["included", "released"] = Field(default="included", title="Target")
    """Item that a sample predicts. included: the target; released: the last item of the history, as in the released code; a history of one
    item scores 0."""
    objective: Objective | None = Field(default=None, title="Objective")
    """Risk samples that count. loss: all of them, as in the paper; ranking: those whose target the surrogate ranks among its first 100.
    Other targets will not appear in any list, and samples that help them make lists worse. None: ranking for method targeted, loss for the
    others."""
    reach: int = Field(default=100, ge=1, title="Reach")
    """For the objective ranking: a risk sample counts if its target is among this many first items of the surrogate. Raise it if few
    samples count."""
    lissa_samples: int = Field(default=4096, ge=1, title="Batch of lissa")
    """Samples in each step of lissa."""
    curvature_samples: int | None = Field(default=None, ge=1, title="Samples of the curvature")
    """Number of train samples, drawn once, that the curvature and its residual are averaged over; None uses all. Fewer are cheaper."""
    part_samples: int | None = Field(default=16384, ge=1, title="Samples of cheap products")
    """Size of the subsample of train samples that preconditions conjugate gradients. It is capped at the number of weights, and at a
    quarter of the train samples if outputs are sampled. Larger is slower per step but needs fewer full passes. None: no preconditioner."""
    part_outputs: int = Field(default=16, ge=2, title="Outputs of cheap products")
    """Outputs of each of those samples, drawn by probability. If there are fewer than four times as many outputs, all are used."""
    damping_rule: DampingRule = Field(default="trace", title="Damping rule")
    """Unit of the damping. trace: multiples of the mean eigenvalue; the mean is over as many eigenvalues as there are weights or samples,
    whichever are fewer. top: a share of the largest eigenvalue. absolute: the number itself."""
    most_steps: int = Field(default=100, ge=1, title="Most products")
    """Number of curvature products over all samples after which cg gives up."""
    precision: Precision = Field(default="float32", title="Precision")
    """Precision of the network's matrix products: bf16 rounds them to bfloat16; sums, losses and solvers stay in float32."""


def of_method(config: InfluenceConfig, method: str) -> InfluenceConfig:
    """The settings, with the objective of a selection method if they name none."""
    own: Objective = "ranking" if method == "targeted" else "loss"
    return config if config.objective else config.model_copy(update={"objective": own})
