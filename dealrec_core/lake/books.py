"""The tables `files` and `quarantine`: what became of every raw row, once however often an ingest was killed."""

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict

from dealrec_core import schema
from dealrec_core.errors import LakeError
from dealrec_core.lake import Conflict, Lake
from dealrec_core.lake.appender import Appender, open_appender

NOTE = "dealrec.books"
"""Note of a commit with the rows of `files` that go with it: a kill in between loses nothing."""
NOTED = ("interactions", "items")
"""The tables whose commits carry such notes."""
ATTEMPTS = 20
SEEN = "dealrec.seen"
"""Transaction of `files`, for each of these tables: up to this commit of it every note is booked."""
SEEN_AT_ONCE = 20
Row = dict[str, Any]
"""The columns of `files`, through as ISO text, and `number`, the transaction number of the reading."""


class IngestReport(BaseModel):
    """What was taken: file paths, and how many rows went where."""

    model_config = ConfigDict(frozen=True)

    files: list[str] = []
    rows: int = 0
    earlier: int = 0
    """Rows that an earlier night took from the same file, filtered or put into quarantine."""
    inserted: int = 0
    duplicates: int = 0
    quarantined: int = 0
    filtered: int = 0
    postponed: int = 0

    def __add__(self, other: "IngestReport") -> "IngestReport":
        return IngestReport(**{name: getattr(self, name) + getattr(other, name) for name in IngestReport.model_fields})


def note(rows: list[Row]) -> dict[str, str]:
    """What a commit must carry so that `heal` can write the rows."""
    return {NOTE: json.dumps(rows)}


def heal(lake: Lake) -> None:
    """Writes the rows of `files` that an ingest was killed before.

    Looks at every commit since the one that it looked at last, however many others came in between.
    """
    files = lake.open("files")
    rows: list[Row] = []
    seen: dict[str, int] = {}
    for table in NOTED:
        handle = lake.open(table)
        if handle is None:
            continue
        commits = handle.version() + 1
        before = (files.transaction_version(seen_word(table)) or 0) if files else 0
        unseen = commits - before if before <= commits else commits
        notes = [commit[NOTE] for commit in handle.history(unseen) if NOTE in commit] if unseen else []
        if notes or unseen > SEEN_AT_ONCE:
            rows += [row for text in reversed(notes) for row in json.loads(text)]
            seen[seen_word(table)] = commits
    if seen:
        write(lake, rows, seen=seen)


def write(lake: Lake, rows: list[Row], *, seen: Mapping[str, int] = MappingProxyType({})) -> None:
    """Adds the rows to `files` that are not there yet.

    seen: by their word, so many commits of a table have nothing else for `files`; worth a commit of its own when they are many.
    """

    def attempt(appender: Appender) -> dict[str, int]:
        wanted = {}
        for row in rows:
            identifier = word(row["kind"], row[schema.FILE], row["number"])
            if appender.taken(identifier) is None:
                wanted[identifier] = row
        transactions = dict.fromkeys(wanted, 1)
        for identifier, commits in seen.items():
            news = commits - (appender.taken(identifier) or 0)
            if news > SEEN_AT_ONCE or (news > 0 and wanted):
                transactions[identifier] = commits
        if wanted:
            text = {**schema.FILES, "through": pl.String()}
            frame = pl.DataFrame([{name: row[name] for name in text} for row in wanted.values()], schema=text)
            appender.write(frame.with_columns(pl.col("through").str.to_date()))
        return transactions

    persist(lake, "files", schema.FILES, attempt)


def word(kind: str, file: str, number: int) -> str:
    """The transaction of `files` that books one reading of a file."""
    return f"{kind}/{file}/{number}"


def seen_word(table: str) -> str:
    """The transaction of `files` that counts the commits of a table that `heal` has looked at."""
    return f"{SEEN}/{table}"


def quarantine(lake: Lake, bad: list[tuple[str, str, pl.DataFrame]]) -> None:
    """Puts bad rows of files (sha256, path, rows) into quarantine, those of one file once."""

    def attempt(appender: Appender) -> dict[str, int]:
        new = [each for each in bad if appender.taken(each[0]) is None]
        frames = [
            rows.with_columns(pl.lit(file).alias(schema.FILE), pl.lit(path).alias("path")) for file, path, rows in new
        ]
        if frames:
            appender.write(pl.concat(frames).select(schema.QUARANTINE.names()))
        return {file: 1 for file, _, _ in new}

    persist(lake, "quarantine", schema.QUARANTINE, attempt)


def persist(lake: Lake, table: str, columns: pl.Schema, attempt: Callable[[Appender], dict[str, int]]) -> None:
    """Commits what `attempt` writes under the transactions it returns (none: no commit); again when another was faster.

    Raises:
        LakeError: others were faster too many times.
    """
    for _ in range(ATTEMPTS):
        appender = open_appender(lake, table, schema=columns)
        try:
            transactions = attempt(appender)
            if transactions:
                appender.commit(transactions)
            return
        except Conflict:
            continue
    raise LakeError(f"other writers of '{table}' were faster {ATTEMPTS} times; run it again when they are done")
