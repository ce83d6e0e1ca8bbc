"""How the influence of a sample is computed."""

from typing import Literal

from pydantic import Field

from dealrec_core.settings.section import Section

DampingRule = Literal["trace", "top", "absolute"]

LossName = Literal["softmax", "sampled", "bce"]

Precision = Literal["float32", "bf16"]


class InfluenceConfig(Section):
    """What leaving a sample out would do to the surrogate's risk."""

    risk: Literal["recent", "validation", "train"] = Field(default="validation", title="Risk")
    """Whose loss counts: all validation samples, the most recent of them, or the train samples (paper)."""
    recent_share: float = Field(default=0.5, gt=0, le=1, title="Share of recent samples")
    """Of the validation slice, what `recent` takes from its end."""
    parameters: str = Field(default="all", title="Parameters", pattern=r"^(all|released|layer:.+)$")
    """Weights that are differentiated: all, layer:<name>, or released (one weight)."""
    loss: LossName = Field(default="softmax", title="Loss")
    """softmax over the catalogue, or sampled softmax or bce with fixed negatives."""
    negatives: int = Field(default=8192, ge=1, title="Negatives")
    """Fixed random items of the sampled and bce losses, the same for every sample. Those of sampled are drawn by the
    surrogate's own probabilities, and likely ones count less."""
    curvature: Literal["gauss_newton", "hessian"] = Field(default="gauss_newton", title="Curvature")
    """The Hessian may have negative eigenvalues; they are detected, not repaired."""
    target: Literal["included", "released"] = Field(default="included", title="Target")
    """released: as in the released code the history's last item stands in for y; a history of one item scores 0."""
    solver: Literal["cg", "lissa", "exact", "identity", "released"] = Field(default="cg", title="Solver")
    """cg for any size, exact for small parameter sets, identity for the plain gradient product; lissa and released for
    comparison."""
    lissa_samples: int = Field(default=4096, ge=1, title="Batch of lissa")
    """Samples in each step of lissa."""
    curvature_samples: int | None = Field(default=None, ge=1, title="Samples of the curvature")
    """The curvature is averaged over so many train samples, drawn once; None takes all. Cheaper, and the residual is
    then that of the drawn samples' curvature."""
    part_samples: int | None = Field(default=16384, ge=1, title="Samples of cheap products")
    """cg prepares its steps on so many train samples, chosen by their content, and then needs few products over all; no more
    than there are weights, nor than a quarter of all where outputs are drawn. None: every product is over all."""
    part_outputs: int = Field(default=16, ge=2, title="Outputs of cheap products")
    """Of each of those samples, drawn by the surrogate's probabilities in the place of all; a catalogue, or negatives, of
    fewer than four times as many are used whole."""
    damping: float = Field(default=5.0, gt=0, title="Damping")
    """Added to every eigenvalue, in units of the rule. Larger is stabler, cheaper and blunter."""
    damping_rule: DampingRule = Field(default="trace", title="Damping rule")
    """trace: multiples of the mean eigenvalue, over as many as there are weights or samples, whichever are fewer. top: a
    share of the largest eigenvalue. absolute: the number itself."""
    tolerance: float = Field(default=1e-3, gt=0, lt=1, title="Tolerance")
    """Largest residual of q, relative to the risk's gradient."""
    most_steps: int = Field(default=100, ge=1, title="Most products")
    """Curvature products over all samples after which cg gives up."""
    most_moved: float = Field(default=0.05, ge=0, le=2, title="Most movement")
    """A night's surrogate must be nearer than this to the one that an earlier night scored with, as 1 − Spearman's
    correlation of a few scores, for its sums and scores to be carried on; 0 computes everything every night."""
    most_residual: float = Field(default=0.05, ge=0, lt=1, title="Most residual of a kept q")
    """Residual of a carried q on tonight's samples above which q is corrected and every score made again."""
    kept_mb: int = Field(default=1024, ge=0, title="Kept activations in MB")
    """Where the weights are one linear layer: memory for its activations, so that the network runs once; 0 keeps none."""
    precision: Precision = Field(default="float32", title="Precision")
    """bf16 rounds the network's matrix products to bfloat16; sums, losses and solvers stay in float32."""
    batch_tokens: int = Field(default=4096, ge=1, title="Batch size in items")
    """Items of histories in one batch: memory, not results."""
