"""Names and types of the columns of every lake table. Frames are checked here, at the border, and nowhere else."""

import polars as pl

from dealrec_core.errors import DataError

USER_ID = "user_id"
ITEM_ID = "item_id"
TIMESTAMP = "timestamp"
RATING = "rating"
EVENT_TYPE = "event_type"
EVENT_ID = "event_id"
PERIOD = "period"
FILE = "file"
ROW = "row"
TITLE = "title"
CATEGORIES = "categories"
COLUMN = "column"
REASON = "reason"
RAW = "raw"
SAMPLE_ID = "sample_id"
HISTORY = "history"
NIGHT = "night"
INFLUENCE = "influence"
EFFORT = "effort"
MODEL = "model"
CONTENT = "content"
SCORE = "score"
GROUP = "group"

UTC_TIME = pl.Datetime("us", "UTC")

INTERACTIONS = pl.Schema(
    {
        EVENT_ID: pl.String(),  # null where the log has none
        USER_ID: pl.String(),
        ITEM_ID: pl.String(),
        TIMESTAMP: UTC_TIME,
        EVENT_TYPE: pl.String(),
        RATING: pl.Float64(),  # null where the log has none
        PERIOD: pl.String(),  # partition: the day, month or year of the timestamp
        FILE: pl.String(),  # sha256 of the raw file's bytes
        ROW: pl.Int64(),  # 1-based record number in that file, header not counted
    }
)

ITEMS = pl.Schema(
    {ITEM_ID: pl.String(), TITLE: pl.String(), CATEGORIES: pl.List(pl.String()), FILE: pl.String(), ROW: pl.Int64()}
)

FILES = pl.Schema(
    {
        FILE: pl.String(),
        "path": pl.String(),
        "stamp": pl.String(),  # size and time or ETag: a path with the same stamp is not read again to hash it
        "kind": pl.String(),  # interactions, items or replay (of quarantine)
        "through": pl.Date(),  # day of the night that ingested it
        "rows": pl.Int64(),  # = earlier + inserted + duplicates + quarantined + filtered + postponed
        "earlier": pl.Int64(),  # rows of the same file that an earlier night ingested
        "inserted": pl.Int64(),
        "duplicates": pl.Int64(),
        "quarantined": pl.Int64(),
        "filtered": pl.Int64(),
        "postponed": pl.Int64(),  # rows later than the night's day; a later night ingests them
    }
)

QUARANTINE = pl.Schema(
    {
        FILE: pl.String(),
        "path": pl.String(),
        ROW: pl.Int64(),
        COLUMN: pl.String(),
        REASON: pl.String(),
        RAW: pl.String(),  # bounded
    }
)

SAMPLES = pl.Schema(
    {
        SAMPLE_ID: pl.String(),  # content hash of user, target item and time
        USER_ID: pl.String(),
        ITEM_ID: pl.String(),  # the target y
        TIMESTAMP: UTC_TIME,  # when y happened
        HISTORY: pl.List(pl.String()),  # x: the item ids before y, oldest first
    }
)

SAMPLE_TABLE = pl.Schema({**SAMPLES, PERIOD: pl.String()})  # partition, as in interactions

INFLUENCES = pl.Schema({NIGHT: pl.String(), SAMPLE_ID: pl.String(), INFLUENCE: pl.Float64()})

EFFORTS = pl.Schema(
    {
        NIGHT: pl.String(),  # the night that computed it
        SAMPLE_ID: pl.String(),
        CONTENT: pl.String(),  # hash of history and target: a late event makes another sample of the same id
        MODEL: pl.String(),  # fingerprint of model and settings
        EFFORT: pl.Float64(),
    }
)

CORESETS = pl.Schema(
    {
        NIGHT: pl.String(),
        SAMPLE_ID: pl.String(),
        SCORE: pl.Float64(),
        INFLUENCE: pl.Float64(),
        EFFORT: pl.Float64(),
        GROUP: pl.Int32(),
        REASON: pl.String(),
    }
)

EVALUATIONS = pl.Schema(
    {
        NIGHT: pl.String(),
        "recommender": pl.String(),
        USER_ID: pl.String(),
        "recall": pl.Float64(),
        "ndcg": pl.Float64(),
        "mrr": pl.Float64(),
    }
)

PROMOTIONS = pl.Schema(
    {
        "at": UTC_TIME,
        "action": pl.String(),  # promoted, rejected, rolled back or set by hand
        NIGHT: pl.String(),  # the night that made the model
        "version": pl.String(),  # of the registered model
        "bundle": pl.String(),  # folder below the lake's root
        "trained_through": UTC_TIME,
        REASON: pl.String(),
        "who": pl.String(),
    }
)


ERASURES = pl.Schema(
    {
        "at": UTC_TIME,
        "user": pl.String(),  # salted hash of the id
        "versions": pl.String(),  # JSON: by table, the first version without the user; {} before the rows are removed
    }
)


def check(frame: pl.DataFrame, expected: pl.Schema, *, name: str) -> pl.DataFrame:
    """Returns `frame` with exactly the expected columns in order.

    Raises:
        DataError: a column is missing or has another type; the message names the first such column.
    """
    for column, dtype in expected.items():
        if column not in frame.columns:
            raise DataError(f"{name} lacks the column '{column}' (has {', '.join(frame.columns)})")
        if frame.schema[column] != dtype:
            raise DataError(f"{name}.{column} is {frame.schema[column]}, not {dtype}; cast it before writing")
    return frame.select(expected.names())
