"""Where raw files are and what their columns are called."""

from pydantic import Field, model_validator

from dealrec_core.settings.section import Section


class ReaderOptions(Section):
    """How text files are cut into fields, where the files do not tell."""

    delimiter: str | None = Field(default=None, min_length=1, title="Delimiter")
    """Between the fields of CSV files; told from the header when left out. May be several letters, such as ::."""
    header: list[str] | None = Field(default=None, title="Header")
    """Names of the columns, for CSV files without a header line."""


class InteractionSource(ReaderOptions):
    """Files of interactions and the names of their columns."""

    files: list[str] = Field(min_length=1, title="Files")
    """Glob patterns below sources.root, such as log/**/*.csv.gz."""
    user_id: str = Field(default="user_id", title="User column")
    item_id: str = Field(default="item_id", title="Item column")
    timestamp: str = Field(default="timestamp", title="Time column")
    """Epoch seconds, milliseconds or microseconds, or ISO 8601; without a zone it is UTC."""
    rating: str | None = Field(default=None, title="Rating column")
    event_type: str | None = Field(default=None, title="Event type column")
    event_id: str | None = Field(default=None, title="Event id column")
    """Where there is none, events are told apart by user, item, time and type."""
    filter: str | None = Field(default=None, title="Filter")
    """Rows to take, over user_id, item_id, timestamp, rating and event_type, for example rating >= 4."""
    event_weights: dict[str, float] | None = Field(default=None, title="Weights of event types")
    """A rating for each type of event, such as {view = 1, buy = 5}; rows of other types are filtered out."""

    @model_validator(mode="after")
    def _one_source_of_ratings(self) -> "InteractionSource":
        if self.event_weights is not None and (self.rating is not None or self.event_type is None):
            raise ValueError("event_weights needs event_type and takes the place of rating; leave rating out")
        return self


class ItemSource(ReaderOptions):
    """Files of items and the names of their columns."""

    files: list[str] = Field(min_length=1, title="Files")
    item_id: str = Field(default="item_id", title="Item column")
    title: str = Field(default="title", title="Title column")
    categories: str | None = Field(default=None, title="Categories column")
    categories_separator: str = Field(default="|", min_length=1, title="Separator inside categories")


class SourcesConfig(Section):
    """Where raw files come from."""

    root: str = Field(title="Root")
    """A folder, or s3://bucket/prefix."""
    interactions: InteractionSource
    items: ItemSource | None = None
    max_bad_fraction: float = Field(default=0.05, ge=0, le=1, title="Bad rows allowed")
    """Above this share of bad rows the ingest stops before anything lands, since then the mapping is likely wrong."""
