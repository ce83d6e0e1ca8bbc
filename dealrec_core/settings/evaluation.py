"""How recommenders are compared, and when a candidate is promoted."""

from typing import Literal

from pydantic import Field

from dealrec_core.settings.section import Section


class EvaluationConfig(Section):
    """How recommenders are compared on the held-out slice."""

    k: int = Field(default=10, ge=1, le=1000, title="List length K")
    """Recall, NDCG and MRR are taken at this length; the gate uses it too."""
    users: int | None = Field(default=500, ge=1, title="Users at most")
    """Held-out users to compare on, drawn at random once a night; None means all."""
    mask_seen: bool = Field(default=False, title="Mask seen items")
    """Drop items of the user's history from every list before it is judged."""
    cold_below: int = Field(default=5, ge=1, title="Cold items")
    """An item with fewer interactions before the held-out slice is cold; recall of such targets is also shown alone."""


class GateConfig(Section):
    """When a candidate is promoted."""

    metric: Literal["recall", "ndcg", "mrr"] = Field(default="recall", title="Metric")
    """Compared per user at evaluation.k."""
    minimum_gain: float = Field(default=0.0, ge=0, title="Minimum gain")
    """The mean gain over what would be replaced must be larger than this (absolute)."""
    confidence: float = Field(default=0.9, ge=0.5, lt=1, title="Confidence")
    """Share of bootstrap resamples over users in which the gain must exceed minimum_gain."""
    resamples: int = Field(default=2000, ge=100, title="Bootstrap resamples")
    """More give a steadier verdict and cost little."""
    maximum_slice_loss: float | None = Field(default=0.05, ge=0, title="Maximum loss per slice")
    """A slice of at least slice_users users may lose at most this much on average; None does not look at slices."""
    slice_users: int = Field(default=30, ge=1, title="Smallest slice")
    """A smaller slice has no say: its mean is noise."""
    approval: bool = Field(default=False, title="Ask a person")
    """A better candidate waits until someone resumes the paused run with a word; a worse one is rejected at once."""
    approval_hours: float = Field(default=12.0, gt=0, title="Hours to wait for a person")
    """After that the candidate is rejected; the lake is held meanwhile."""
