"""How recommenders are compared, and when a candidate is promoted."""

from typing import Literal

from pydantic import Field

from dealrec_core.settings.section import Section


class NightlyEvaluation(Section):
    """How recommenders are compared on the held-out slice."""

    k: int = Field(default=10, ge=1, le=1000, title="List length K")
    """Number of items in a list; recall, NDCG and MRR are computed at this length. Set it to the number of items that your page shows."""
    users: int | None = Field(default=10_000, ge=1, title="Users at most")
    """Largest number of held-out users on whom models are compared, drawn once a night; None means all. Each model ranks for all of them.
    Lower it if that takes too long; the gate then needs more nights to detect a gain."""
    calibration_users: int = Field(default=500, ge=0, title="Users to calibrate on at most")
    """Largest number of validation users on whom each recommender's calibration is fitted, drawn once a night; 0 turns calibration off.
    Raise it for a large catalogue, in which few users show a gain. A fit ranks four or five times for each of these users."""
    mask_seen: bool = Field(default=False, title="Mask seen items")
    """Whether items of the user's history are dropped from every list. Set it if users do not buy or watch an item twice."""


class EvaluationConfig(NightlyEvaluation):
    """All settings of an evaluation; a study sets those that a night does not have."""

    cold_below: int = Field(default=5, ge=1, title="Cold items")
    """An item with fewer interactions before the held-out slice is cold; recall of such targets is also shown alone."""


Baseline = Literal["popularity", "recent popularity", "item knn", "surrogate"]


class GateConfig(Section):
    """When a candidate is promoted."""

    first_beats: list[Baseline] = Field(default=["recent popularity", "item knn"], min_length=1, title="First champion")
    """While there is no champion, a candidate must beat the best of these recommenders. Add surrogate if you would also serve the small
    network; use only popularity for trials."""

    metric: Literal["recall", "ndcg", "mrr"] = Field(default="ndcg", title="Metric")
    """Metric on which candidate and champion are compared, user by user. Use recall if only hits count, not their places."""
    depth: int = Field(default=20, ge=1, le=1000, title="Depth")
    """Number of items of a list that the gate's metric looks at. Up to `recommender.beams` items cost nothing. With 100 items a gain is
    detected with a quarter of the users, but ranking takes several times as long."""
    minimum_gain: float = Field(default=0.0, ge=0, lt=1, title="Minimum gain")
    """Smallest mean gain, in units of the metric, that a candidate needs. Raise it if a change of models has a cost of its own."""
    confidence: float = Field(default=0.9, ge=0, lt=1, title="Confidence")
    """Probability that a champion is never replaced by a model that is not better, over all of its nights. Raise it to promote more rarely.
    For trials, 0 promotes a first candidate that is only ahead."""
    resamples: int = Field(default=2000, ge=100, title="Bootstrap resamples")
    """Number of bootstrap resamples of the intervals that are shown; the verdict does not depend on them. Fewer are for tests."""
    maximum_slice_loss: float | None = Field(default=0.05, ge=0, title="Maximum loss per slice")
    """Largest mean loss of a slice (a group of at least 30 users), in units of the metric. A loss within two standard errors of the slice
    is allowed in any case. None ignores slices."""
    approval: bool = Field(default=False, title="Ask a person")
    """Whether a better candidate waits until a person answers in the form of the paused run. A worse one is rejected at once."""
    approval_hours: float = Field(default=12.0, gt=0, title="Hours to wait for a person")
    """Hours after which a candidate is rejected if nobody has answered. No other night can use the lake meanwhile."""
