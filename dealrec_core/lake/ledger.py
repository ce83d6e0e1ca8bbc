"""The tables `files` and `quarantine`: what became of every raw row, written once however often an ingest was killed."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict

from dealrec_core import schema
from dealrec_core.lake import Lake
from dealrec_core.lake.draft import Draft, change

NOTE = "dealrec.books"
"""Note of a commit with the rows of `files` that belong to it: a kill between the two commits loses nothing."""
NOTED = ("interactions", "items")
"""The tables whose commits carry such notes."""
SEEN = "dealrec.seen"
"""Transaction of `files`, one per table in NOTED: how many commits of that table have had their notes written to `files`."""
FINISHED = 2**40
"""Number of the last reading of a file, of which no row is postponed; the ordinal of any day is smaller."""
SEEN_AT_ONCE = 20
"""Commits without a note after which it is worth a commit of `files` to remember that they were seen."""
Row = dict[str, Any]
"""The columns of `files`, through as ISO text, and `number`, the transaction number of the reading."""


class IngestReport(BaseModel):
    """Which files an ingest read, and how many of their rows went where."""

    model_config = ConfigDict(frozen=True)

    files: list[str] = []
    rows: int = 0
    earlier: int = 0
    """Rows of the same file that an earlier night wrote, filtered or put into quarantine."""
    inserted: int = 0
    duplicates: int = 0
    quarantined: int = 0
    filtered: int = 0
    postponed: int = 0

    def __add__(self, other: "IngestReport") -> "IngestReport":
        return IngestReport(**{name: getattr(self, name) + getattr(other, name) for name in IngestReport.model_fields})


COUNTS = [name for name in IngestReport.model_fields if name != "files"]


def report(row: Row) -> IngestReport:
    """Returns the report of one row of `files`."""
    return IngestReport(files=[row["path"]], **{name: row[name] for name in COUNTS})


def note(rows: list[Row]) -> dict[str, str]:
    """Returns what a commit must carry so that `heal` can write the rows."""
    return {NOTE: json.dumps(rows)}


def heal(lake: Lake) -> None:
    """Writes the rows of `files` that a killed ingest did not come to write.

    Reads the notes of every commit since the last one that was seen, however many there are.
    """
    files = lake.open("files")
    rows: list[Row] = []
    seen: dict[str, int] = {}
    for table in NOTED:
        handle = lake.open(table)
        if handle is None:
            continue
        commits = handle.version() + 1
        before = (files.transaction_version(seen_transaction(table)) or 0) if files else 0
        unseen = commits - before if before <= commits else commits
        notes = [commit[NOTE] for commit in handle.history(unseen) if NOTE in commit] if unseen else []
        if notes or unseen > SEEN_AT_ONCE:
            rows += [row for text in reversed(notes) for row in json.loads(text)]
            seen[seen_transaction(table)] = commits
    if seen:
        write(lake, rows, seen=seen)


def write(lake: Lake, rows: list[Row], *, seen: Mapping[str, int] = MappingProxyType({})) -> None:
    """Adds the rows to `files` that are not there yet.

    seen: by `seen_transaction`, how many commits of a table have their notes among the rows or none.
    """

    def attempt(draft: Draft) -> None:
        new_rows = {}
        for row in rows:
            identifier = row_transaction(row["kind"], row[schema.FILE], row["number"])
            if draft.recorded(identifier) is None:
                new_rows[identifier] = row
        transactions = dict.fromkeys(new_rows, 1)
        for identifier, commits in seen.items():
            unseen = commits - (draft.recorded(identifier) or 0)
            if unseen > SEEN_AT_ONCE or (unseen > 0 and new_rows):
                transactions[identifier] = commits
        if new_rows:
            text = {**schema.FILES, "through": pl.String()}
            frame = pl.DataFrame([{name: row[name] for name in text} for row in new_rows.values()], schema=text)
            draft.write(frame.with_columns(pl.col("through").str.to_date()))
        if transactions:
            draft.commit(transactions)

    change(lake, "files", attempt, schema=schema.FILES)


def row_transaction(kind: str, file: str, number: int) -> str:
    """Returns the transaction of `files` that stands for one reading of a file."""
    return f"{kind}/{file}/{number}"


def seen_transaction(table: str) -> str:
    """Returns the transaction of `files` that counts the commits of a table that `heal` has seen."""
    return f"{SEEN}/{table}"


def quarantine(lake: Lake, bad: list[tuple[str, str, pl.DataFrame]], *, part: str = "") -> None:
    """Puts the bad rows of files (sha256, path, rows) into quarantine; a file whose rows are there is left out.

    part: tells rows of a file that come later from those that came at once.
    """

    def attempt(draft: Draft) -> None:
        frames = {
            file: rows.with_columns(pl.lit(file).alias(schema.FILE), pl.lit(path).alias("path"))
            for file, path, rows in bad
            if draft.recorded(f"{file}{part}") is None
        }
        if frames:
            draft.write(pl.concat(frames.values()).select(schema.QUARANTINE.names()))
            draft.commit({f"{file}{part}": 1 for file in frames})

    change(lake, "quarantine", attempt, schema=schema.QUARANTINE)
