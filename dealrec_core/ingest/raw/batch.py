"""The batch of records that every reader of raw files yields."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import polars as pl

from dealrec_core.errors import SettingsError, SourceError

ROW = "\x00row"
FAULT = "\x00fault"
"""Names that no raw column can have: a NUL byte is a fault in every format."""
KEY = "\x00key"
"""Sorting key of a row (Int64)."""
HASH = "\x00hash"
"""Divides the rows of one key further (UInt64): rows that must stay together have the same hash."""


class Unreadable(SourceError):
    """The content of a raw file is broken as a whole: cut off, not what its name says, or a decompression bomb."""


class ColumnMissing(SettingsError):
    """A mapped column is not in a raw file."""


@dataclass(frozen=True)
class Batch:
    """Consecutive records of a raw file.

    frame: ROW (Int64, 1-based, header not counted), FAULT (String, null where the record could be read) and the raw columns,
        as text or, from Parquet, with their types.
    raw: the text of the record at a place of `frame`.
    is_stripped: no text has blanks at its ends, and none is empty.
    """

    frame: pl.DataFrame
    raw: Callable[[int], str]
    is_stripped: bool = False
    form: str = ""
    """The format, encoding and quoting of the file, in words."""
    lists: frozenset[str] = frozenset()
    """Columns whose values are lists, as the header says."""
    is_open: bool = False
    """Whether the last record is the last line of a text file and has no line end: it may still be growing."""
    may_have: Callable[[bytes], bool] = lambda _: True
    """Whether a letter of one byte may occur in the text of the records: a quick look that saves a slow one."""

    def only(self, rows: pl.Series) -> "Batch":
        """Returns the records with these numbers."""
        places = self.frame[ROW].is_in(rows.implode()).arg_true()
        return replace(self, frame=self.frame[places], raw=lambda place: self.raw(places[place]))


def numbered(frame: pl.DataFrame, row: int) -> pl.DataFrame:
    """Returns the frame of a batch without faults, whose first record has the number `row`."""
    return frame.select(
        pl.int_range(row, row + frame.height, eager=True).alias(ROW),
        pl.lit(None, dtype=pl.String).alias(FAULT),
        pl.all(),
    )


def check_columns(columns: list[str], present: list[str], *, path: str, has_inner: bool = False) -> None:
    """Raises ColumnMissing for the first of the columns that the file does not have, or has twice.

    has_inner: whether a column may have fields of its own, named with dots.
    """
    for column in columns:
        if column not in present and not (has_inner and column.split(".")[0] in present):
            named = any(name in present for name in columns)
            advice = "" if named else ", or set delimiter or header there"
            raise ColumnMissing(
                f"no column '{column}' in '{path}', which has {_shown(present)}; name it in [sources]{advice}"
            )
        if present.count(column) > 1:
            raise ColumnMissing(f"'{path}' has {present.count(column)} columns '{column}'; rename the others there")


def _shown(names: list[str]) -> str:
    """Names for a message: no control letter reaches the terminal, and a line of data is cut."""
    clean = ["".join(letter if letter.isprintable() else "?" for letter in name[:60]) for name in names[:50]]
    return ", ".join(clean) + (", ..." if len(names) > len(clean) else "")
