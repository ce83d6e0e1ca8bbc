"""Names and types of the columns of every lake table. Frames are checked here, at the border, and nowhere else."""

import polars as pl

from dealrec_core.errors import DataError

USER_ID, ITEM_ID, TIMESTAMP, RATING = "user_id", "item_id", "timestamp", "rating"
EVENT_TYPE, EVENT_ID, PERIOD = "event_type", "event_id", "period"
FILE, ROW, COLUMN, REASON, RAW = "file", "row", "column", "reason", "raw"
TITLE, CATEGORIES = "title", "categories"
SAMPLE_ID, HISTORY, CONTENT = "sample_id", "history", "content"
NIGHT, MODEL = "night", "model"
INFLUENCE, EFFORT, SCORE, GROUP = "influence", "effort", "score", "group"

UTC_TIME, TEXT, TEXTS, NUMBER = pl.Datetime("us", "UTC"), pl.String(), pl.List(pl.String()), pl.Float64()

INTERACTIONS = pl.Schema(
    {
        **{EVENT_ID: TEXT, USER_ID: TEXT, ITEM_ID: TEXT, TIMESTAMP: UTC_TIME, EVENT_TYPE: TEXT, RATING: NUMBER},
        **{PERIOD: TEXT, FILE: TEXT, ROW: pl.Int64()},
    }
)
"""Event id and rating are null where the log has none. PERIOD is the partition: day, month or year of the timestamp. FILE is the
sha256 of the raw file's bytes, ROW the 1-based record number in it, header not counted."""

ITEMS = pl.Schema({ITEM_ID: TEXT, TITLE: TEXT, CATEGORIES: TEXTS, FILE: TEXT, ROW: pl.Int64()})

COUNTS = ("rows", "earlier", "inserted", "duplicates", "quarantined", "filtered", "postponed")
"""What became of the rows of a file; rows is the sum of the others. Rows counted as earlier were ingested by an earlier night,
those postponed are later than the night's day and wait for a later night."""
FILES = pl.Schema(
    {
        **{FILE: TEXT, "path": TEXT, "stamp": TEXT, "kind": TEXT, "through": pl.Date()},
        **dict.fromkeys(COUNTS, pl.Int64()),
    }
)
"""Readings of files. A path with the same stamp (size and time or ETag) is not read again to hash it. Kind is interactions, items or
replay (of quarantine); through is the day of the night that ingested it."""

QUARANTINE = pl.Schema({FILE: TEXT, "path": TEXT, ROW: pl.Int64(), COLUMN: TEXT, REASON: TEXT, RAW: TEXT})

SAMPLES = pl.Schema({SAMPLE_ID: TEXT, USER_ID: TEXT, ITEM_ID: TEXT, TIMESTAMP: UTC_TIME, HISTORY: TEXTS})
"""SAMPLE_ID is a content hash of user, target item and time. ITEM_ID is the target y, TIMESTAMP when it happened, and HISTORY is x:
the ids of the items before y, oldest first."""
SAMPLE_TABLE = pl.Schema({**SAMPLES, PERIOD: TEXT})

INFLUENCES = pl.Schema({NIGHT: TEXT, SAMPLE_ID: TEXT, INFLUENCE: NUMBER})

EFFORTS = pl.Schema({NIGHT: TEXT, SAMPLE_ID: TEXT, CONTENT: TEXT, MODEL: TEXT, EFFORT: NUMBER})
"""NIGHT computed the effort. CONTENT is a hash of history and target, as a late event makes another sample of the same id. MODEL is
a fingerprint of model and settings."""

CORESETS = pl.Schema(
    {
        **{NIGHT: TEXT, SAMPLE_ID: TEXT, SCORE: NUMBER, INFLUENCE: NUMBER, EFFORT: NUMBER},
        **{GROUP: pl.Int32(), REASON: TEXT},
    }
)

EVALUATIONS = pl.Schema(
    {NIGHT: TEXT, "recommender": TEXT, USER_ID: TEXT, "recall": NUMBER, "ndcg": NUMBER, "mrr": NUMBER}
)

TRIALS = pl.Schema(
    {
        **{NIGHT: TEXT, "role": TEXT, MODEL: TEXT, "champion": TEXT, "against": TEXT, "number": pl.Int64()},
        **{"since": UTC_TIME, "through": UTC_TIME, "users": pl.Int64(), "recall": NUMBER, "value": NUMBER},
        **{"opponent": NUMBER, "gain": NUMBER, "low": NUMBER, "high": NUMBER, "all_users": pl.Int64()},
        **{"winnings": pl.List(pl.Float64()), "slices": TEXT, "evidence": NUMBER},
    }
)
"""What new events said about the champion and its challengers before anything learnt them: `dealrec_core.evaluation.gate.Trial`.
MODEL is the night that made the model, champion the version in charge; slices are JSON."""

PROMOTIONS = pl.Schema(
    {
        **{"at": UTC_TIME, "action": TEXT, NIGHT: TEXT, "version": TEXT, "bundle": TEXT},
        **{"trained_through": UTC_TIME, REASON: TEXT, "who": TEXT, "number": pl.Int64()},
    }
)
"""The action is promoted, rejected, unchanged, rolled back or set by hand. NIGHT made the model; version is the registered model's,
bundle a folder below the lake's root. The number grows with every commit; it is null in rows of older programs, the oldest ones."""

ERASURES = pl.Schema({"at": UTC_TIME, "user": TEXT, "versions": TEXT})
"""The user is a salted hash of the id. Versions are JSON: by table, the first version without the user; {} before the rows are
removed."""


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
