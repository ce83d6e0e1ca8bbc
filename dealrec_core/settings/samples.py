"""How the log becomes samples."""

from typing import Literal

from pydantic import Field

from dealrec_core.settings.section import Section


class SamplesConfig(Section):
    """How the log becomes samples, and how much of it is held out."""

    mode: Literal["sliding", "last"] = Field(default="sliding", title="Samples per user")
    """Number of samples that a user gives. sliding: one for every interaction that has a history; last: one, as in the paper."""
    history_length: int = Field(default=20, ge=1, le=1000, title="History length")
    """Largest number of items in a history. Older items are dropped in samples, surrogate, TIGER and evaluation. Raise it if old items
    still help to predict the next item; memory and time grow with it."""
    validation_fraction: float = Field(default=0.1, gt=0, lt=0.5, title="Validation share")
    """Share of the log in the validation slice, just before the test slice. This slice decides when training stops, and influence is
    computed for its loss."""
    test_fraction: float = Field(default=0.1, gt=0, lt=0.5, title="Test share")
    """Share of the log in the test slice: its most recent part, on which models are compared and not trained. Raise it if too few users
    have events in it."""
