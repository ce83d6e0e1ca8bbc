"""Where raw files are and what their columns are called."""

import codecs
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from dealrec_core.settings.section import Section

NULL_WORDS = [
    *(
        "\\N",
        "NULL",
        "null",
        "None",
        "NaN",
        "nan",
        "NaT",
        "NA",
        "N/A",
        "n/a",
        "#N/A",
        "<NA>",
        "<null>",
        "(null)",
        "[NULL]",
    ),
    *("undefined", "__HIVE_DEFAULT_PARTITION__"),
    *("#NULL!", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!"),
]
SPECIAL_FORMATS = ("s", "ms", "us", "ns", "excel", "days")


class ReaderOptions(Section):
    """How text files are cut into fields, if the files themselves do not show it."""

    format: Literal["auto", "csv", "json", "parquet"] = Field(default="auto", title="Format")
    """Format of the files, whatever their names. auto detects it from the first bytes. Set it if a file is read in the wrong format."""
    encoding: str = Field(default="auto", title="Encoding")
    """Encoding of text files, such as latin-1, cp1251, gb18030 or shift_jis. auto reads UTF-8, UTF-16 and UTF-32, and Windows-1252 (with
    Latin-1) if the bytes show it. Set any other encoding here."""
    quote: str = Field(default="auto", title="Quote")
    """Letter around CSV fields, or none if quotes are letters like others. auto detects it from the lines with quotes."""
    escape: Literal["auto", "doubled", "backslash"] = Field(default="auto", title="Escape")
    """How a quote is written inside a quoted CSV field: doubled, or with a backslash before it. auto uses the form with fewer broken
    records."""
    null_words: list[str] = Field(default=NULL_WORDS, title="Null words")
    """Texts that mean "no value", in any column. Remove a text from the list if it is a name in your log."""
    delimiter: str | None = Field(default=None, min_length=1, title="Delimiter")
    """Text between the fields of CSV files; it may have several letters, such as ::. None derives it from the header."""
    header: list[str] | None = Field(default=None, title="Header")
    """Names of the columns of CSV files that have no header line."""

    @property
    def needed(self) -> list[str]:
        """The columns without which a record is none."""
        return []

    @field_validator("encoding")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            if name != "auto" and not codecs.lookup(name)._is_text_encoding:
                raise LookupError
        except LookupError as error:
            raise ValueError("unknown encoding; give a name that Python knows, such as latin-1, or auto") from error
        return name

    @field_validator("quote")
    @classmethod
    def _one_letter(cls, quote: str) -> str:
        if quote not in ("auto", "none") and len(quote.encode()) != 1:
            raise ValueError("give auto, none or one letter")
        return quote


class InteractionSource(ReaderOptions):
    """Files of interactions and the names of their columns."""

    files: list[str] = Field(min_length=1, title="Files")
    """Glob patterns of the files with interactions, below `sources.root`, such as log/**/*.csv.gz. Change them if your files have other
    names. CSV, JSON lines and Parquet are read, plain or compressed."""
    user_id: str = Field(default="user_id", title="User column")
    """Name of the column with the user."""
    item_id: str = Field(default="item_id", title="Item column")
    """Name of the column with the item."""
    timestamp: str = Field(default="timestamp", title="Time column")
    """Name of the column with the time: epoch seconds to nanoseconds, a calendar day such as 20240131, ISO 8601 and the other forms
    that docs/lake.md lists."""
    timestamp_format: str | None = Field(default=None, title="Form of times")
    """Form of the times, such as %d/%m/%Y %H:%M, or s, ms, us, ns, days (since 1970) or excel (days since 1900) for numbers. None detects
    the form of each value. Set it if day and month could be confused."""
    time_zone: str = Field(default="UTC", title="Time zone")
    """Zone of times that name no zone, such as Europe/Berlin. A time in the hour that autumn repeats is read as that of the first pass."""
    rating: str | None = Field(default=None, title="Rating column")
    """Name of the column with the rating. Set it if `filter` should use the rating."""
    event_type: str | None = Field(default=None, title="Event type column")
    """Name of the column with the type of event, such as view or buy. Set it if files mix types."""
    event_id: str | None = Field(default=None, title="Event id column")
    """Name of the column that identifies an event. None compares events by user, item, time and type."""
    filter: str | None = Field(default=None, title="Filter")
    """Condition that a row must meet, over user_id, item_id, timestamp, rating and event_type, for example rating >= 4. Set it if only some
    rows show that a user is interested. None accepts every row."""
    event_weights: dict[str, float] | None = Field(default=None, title="Weights of event types")
    """Rating of each type of event, such as {view = 1, buy = 5}; rows of other types are filtered out."""

    @property
    def needed(self) -> list[str]:
        """The columns without which a record is none."""
        return [self.user_id, self.item_id, self.timestamp]

    @field_validator("timestamp_format")
    @classmethod
    def _pattern(cls, form: str | None) -> str | None:
        if form is not None and form not in SPECIAL_FORMATS and "%" not in form:
            raise ValueError(f"give a pattern such as %d/%m/%Y %H:%M:%S, or one of {', '.join(SPECIAL_FORMATS)}")
        return form

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (OSError, ValueError, LookupError) as error:
            raise ValueError("unknown time zone; give a name such as Europe/Berlin") from error
        return name

    @model_validator(mode="after")
    def _one_source_of_ratings(self) -> "InteractionSource":
        if self.event_weights is not None and (self.rating is not None or self.event_type is None):
            raise ValueError("event_weights needs event_type and replaces rating; remove rating")
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
    """Name of the column with the categories. Set it if your files have such a column: TIGER and some selection methods use it."""
    categories_separator: str = Field(default="|", min_length=1, title="Separator inside categories")
    """Text between the categories of one item."""

    @property
    def needed(self) -> list[str]:
        """The columns without which a record is none."""
        return [self.item_id]


class SourcesConfig(Section):
    """Where raw files come from."""

    root: str = Field(title="Root")
    """Place of the raw files: a folder, or s3://bucket/prefix. Every path pattern is relative to it. Set it first."""
    interactions: InteractionSource
    items: ItemSource | None = None
    max_bad_fraction: float = Field(default=0.05, ge=0, le=1, title="Bad rows allowed")
    """Share of bad rows above which the ingest stops before any row is written, because the settings of the columns are then probably
    wrong. Raise it if you know the bad rows and accept that they go to the quarantine."""
    max_untitled_fraction: float = Field(default=0.2, ge=0, le=1, title="Items without a title allowed")
    """Share of items without a title above which the night warns. A large share may mean that the log and the item files write ids in
    different ways. Raise it if many items really have no title."""
