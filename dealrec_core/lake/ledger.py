"""The tables `files` and `quarantine`: what became of every raw row, written once however often an ingest was killed."""

import json
from collections.abc import Collection, Mapping
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
"""The columns of `files`, through as ISO text, and `number`, the transaction number of the reading. A reading that takes a file again
has `replaces`, the hashes of the contents whose rows go, and `again`, the version of the table that it makes."""
PARTS = ("", "/last line")
"""Endings of the transactions of `quarantine` that stand for the bad rows of one file: those read at once, and its last line."""


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
    warnings: list[str] = []
    """Sentences that name odd rows, such as a type of event that never occurs."""

    def __add__(self, other: "IngestReport") -> "IngestReport":
        return IngestReport(**{name: getattr(self, name) + getattr(other, name) for name in IngestReport.model_fields})


COUNTS = list(schema.COUNTS)


def report(row: Row) -> IngestReport:
    """Returns the report of one row of `files`."""
    return IngestReport(files=[row["path"]], **{name: row[name] for name in COUNTS})


def note(rows: list[Row]) -> dict[str, str]:
    """Returns the note of a commit from which `heal` can write the rows."""
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
        new_rows: dict[str, Row] = {}
        replaced: set[tuple[str, str]] = set()
        for row in rows:
            identifier = row_transaction(row["kind"], row[schema.FILE], row["number"], again=row.get("again"))
            if not draft.recorded(identifier):
                gone = {(_group(row["kind"]), file) for file in row.get("replaces", ())}
                replaced |= gone
                stays = {
                    name: new for name, new in new_rows.items() if (_group(new["kind"]), new[schema.FILE]) not in gone
                }
                new_rows = {**stays, identifier: row}
        plain = [row_transaction(row["kind"], row[schema.FILE], row["number"]) for row in new_rows.values()]
        transactions = _dropped(lake, draft, replaced) | dict.fromkeys([*plain, *new_rows], 1)
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


def _group(kind: str) -> str:
    """The kind of file that a kind of reading reads."""
    return "items" if kind == "items" else "interactions"


def _dropped(lake: Lake, draft: Draft, replaced: set[tuple[str, str]]) -> dict[str, int]:
    """Drops the readings of contents (kind of file, hash) that were replaced; returns transactions that forget them."""
    if not replaced:
        return {}
    condition = pl.any_horizontal(
        pl.col(schema.FILE).is_in([file for kind, file in replaced if kind == group])
        & ((pl.col("kind") == "items") == (group == "items"))
        for group in ("items", "interactions")
    )
    rows = lake.scan("files", draft.handle.version()).filter(condition).select("kind", schema.FILE, "through").collect()
    draft.drop(condition)
    readings = {
        row_transaction(kind, file, number)
        for kind, file, through in rows.iter_rows()
        for number in (FINISHED, through.toordinal())
    }
    return {reading: 0 for reading in readings if draft.recorded(reading)}


def row_transaction(kind: str, file: str, number: int, *, again: int | None = None) -> str:
    """Returns the transaction of `files` that stands for one reading of a file.

    again: the version of the table that the reading makes, where it takes the file again.
    """
    return f"{kind}/{file}/{number}" if again is None else f"{kind}/{file}/{number}/again/{again}"


def seen_transaction(table: str) -> str:
    """Returns the transaction of `files` that counts the commits of a table that `heal` has seen."""
    return f"{SEEN}/{table}"


def quarantine(
    lake: Lake, bad: list[tuple[str, str, pl.DataFrame]], *, part: str = "", replaced: Collection[str] = ()
) -> None:
    """Puts the bad rows of files (sha256, path, rows) into quarantine; a file whose rows are there is left out.

    part: tells rows of a file that come later from those that came at once.
    replaced: hashes of contents whose rows leave quarantine in the same commit.
    """

    def attempt(draft: Draft) -> None:
        frames = {
            file: rows.with_columns(pl.lit(file).alias(schema.FILE), pl.lit(path).alias("path"))
            for file, path, rows in bad
            if file in replaced or not draft.recorded(f"{file}{part}")
        }
        if frames:
            draft.write(pl.concat(frames.values()).select(schema.QUARANTINE.names()))
        dropped = draft.drop(pl.col(schema.FILE).is_in(list(replaced))) if replaced else 0
        if frames or dropped:
            forgotten = {
                f"{file}{ending}": 0 for file in replaced for ending in PARTS if draft.recorded(f"{file}{ending}")
            }
            draft.commit(forgotten | {f"{file}{part}": 1 for file in frames})

    change(lake, "quarantine", attempt, schema=schema.QUARANTINE)
