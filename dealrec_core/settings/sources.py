"""Where raw files are and what their columns are called."""

from pydantic import Field, model_validator

from dealrec_core.settings.section import Section


class ReaderOptions(Section):
    """How text files are cut into fields, where the files themselves do not show it."""

    delimiter: str | None = Field(default=None, min_length=1, title="Delimiter")
    """Text between the fields of CSV files; it may have several letters, such as ::. None derives it from the header."""
    header: list[str] | None = Field(default=None, title="Header")
    """Names of the columns of CSV files that have no header line."""


class InteractionSource(ReaderOptions):
    """Files of interactions and the names of their columns."""

    files: list[str] = Field(min_length=1, title="Files")
    """Glob patterns of the files with interactions, below `sources.root`, such as log/**/*.csv.gz. Change them when your files
    have other names; CSV, JSON lines and Parquet are read, plain or compressed."""
    user_id: str = Field(default="user_id", title="User column")
    """Name of the column with the user."""
    item_id: str = Field(default="item_id", title="Item column")
    """Name of the column with the item."""
    timestamp: str = Field(default="timestamp", title="Time column")
    """Name of the column with the time: epoch seconds, milliseconds or microseconds, or ISO 8601; without a zone it is UTC."""
    rating: str | None = Field(default=None, title="Rating column")
    """Name of the column with the rating. Set it when `filter` should use the rating."""
    event_type: str | None = Field(default=None, title="Event type column")
    """Name of the column with the type of event, such as view or buy. Set it when files mix types."""
    event_id: str | None = Field(default=None, title="Event id column")
    """Name of the column that identifies an event. None compares events by user, item, time and type."""
    filter: str | None = Field(default=None, title="Filter")
    """Condition that a row must meet, over user_id, item_id, timestamp, rating and event_type, for example rating >= 4.
    Set it when only some rows are a sign of interest; None takes every row."""
    event_weights: dict[str, float] | None = Field(default=None, title="Weights of event types")
    """Rating of each type of event, such as {view = 1, buy = 5}; rows of other types are filtered out."""

    @model_validator(mode="after")
    def _one_source_of_ratings(self) -> "InteractionSource":
        if self.event_weights is not None and (self.rating is not None or self.event_type is None):
            raise ValueError("event_weights needs event_type and takes the place of rating; leave rating out")
        return self


class ItemSource(ReaderOptions):
    """Files of items and the names of their columns."""

    files: list[str] = Field(min_length=1, title="Files")
    """Glob patterns below `sources.root`, such as items/*.csv."""
    item_id: str = Field(default="item_id", title="Item column")
    """Name of the column with the item."""
    title: str = Field(default="title", title="Title column")
    """Name of the column with the title, which the language model reads and writes."""
    categories: str | None = Field(default=None, title="Categories column")
    """Name of the column with the categories. Set it when there is one: TIGER and some selection methods use it."""
    categories_separator: str = Field(default="|", min_length=1, title="Separator inside categories")
    """Text between the categories of one item."""


class SourcesConfig(Section):
    """Where raw files come from."""

    root: str = Field(title="Root")
    """Place of the raw files: a folder, or s3://bucket/prefix. Every path pattern is relative to it. Set it first."""
    interactions: InteractionSource
    items: ItemSource | None = None
    max_bad_fraction: float = Field(default=0.05, ge=0, le=1, title="Bad rows allowed")
    """Share of bad rows above which the ingest stops before any row is written, because the mapping is then probably wrong.
    Raise it once when the bad rows are known and should go to the quarantine."""
