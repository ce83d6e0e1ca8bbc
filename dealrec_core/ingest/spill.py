"""Sorts rows by a key, through files on this machine's disk where they do not fit into memory."""

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import psutil

from dealrec_core.ingest.raw.batch import HASH, KEY

PREFIX = "dealrec-spill-"
MEMORY_ROWS = 2_000_000
"""Most rows that wait in memory, of all runs together."""
RUN_ROWS = 250_000
"""Smallest run; fewer rows wait for more."""
PORTION_ROWS = 500_000
"""Rows of a portion, about."""


@dataclass(frozen=True)
class Run:
    """Rows sorted by KEY, in memory or in a file, with where each key begins."""

    keys: np.ndarray
    starts: np.ndarray  # (keys + 1,)
    rows: pl.DataFrame | Path

    def between(self, first: int, last: int) -> pl.DataFrame | None:
        """Returns the rows with first <= KEY <= last, None where there are none."""
        low, high = np.searchsorted(self.keys, first, "left"), np.searchsorted(self.keys, last, "right")
        start, length = int(self.starts[low]), int(self.starts[high] - self.starts[low])
        if not length:
            return None
        if isinstance(self.rows, pl.DataFrame):
            return self.rows.slice(start, length)
        return pl.scan_parquet(self.rows).slice(start, length).collect()


@dataclass
class Spill:
    """Rows that are added in any order and from any thread, and are read back by KEY."""

    portion_rows: int = PORTION_ROWS
    _folder: tempfile.TemporaryDirectory[str] | None = None
    _runs: list[Run] = field(default_factory=list)
    _waiting: list[pl.DataFrame] = field(default_factory=list)
    _in_memory: int = 0
    _files: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __enter__(self) -> "Spill":
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def add(self, frame: pl.DataFrame) -> None:
        """Adds rows that have a KEY; all frames have the same columns."""
        if frame.is_empty():
            return
        if frame.height < RUN_ROWS:
            with self._lock:
                self._waiting.append(frame)
                if sum(rows.height for rows in self._waiting) < RUN_ROWS:
                    return
                frame, self._waiting = pl.concat(self._waiting), []
        self._store(frame)

    def portions(self) -> Iterator[pl.DataFrame]:
        """Yields all rows, about `portion_rows` at a time, of consecutive keys and sorted by KEY; can be called again.

        No key is in two portions, but for one with more than `portion_rows` rows: there no HASH is in two.
        """
        self._flush()
        for first, last, count in self._bounds():
            if first == last and count > self.portion_rows:
                yield from self._of_one_key(first, count)
            else:
                yield self._between(first, last)

    def by_key(self) -> Iterator[pl.DataFrame]:
        """Yields all rows, those of one key at a time."""
        self._flush()
        for key in sorted({int(key) for run in self._runs for key in run.keys}):
            yield self._between(key, key)

    def _store(self, frame: pl.DataFrame) -> None:
        rows = frame if frame[KEY].is_sorted() else frame.sort(KEY)
        values = rows[KEY].to_numpy()
        changes = np.flatnonzero(np.diff(values)) + 1
        starts = np.concatenate([[0], changes, [rows.height]])
        with self._lock:
            path = self._path() if self._in_memory + rows.height > MEMORY_ROWS else None
            self._in_memory += 0 if path else rows.height
        if path:
            rows.write_parquet(path, compression="lz4", row_group_size=2**16, statistics=False)
        with self._lock:
            self._runs.append(Run(values[starts[:-1]].copy(), starts, path or rows))

    def _flush(self) -> None:
        if self._waiting:
            rows, self._waiting = pl.concat(self._waiting), []
            self._store(rows)

    def _between(self, first: int, last: int) -> pl.DataFrame:
        rows = pl.concat([rows for run in self._runs if (rows := run.between(first, last)) is not None])
        return rows if rows[KEY].is_sorted() else rows.sort(KEY)

    def _of_one_key(self, key: int, count: int) -> Iterator[pl.DataFrame]:
        """The rows of a key that has too many, by remainders of their HASH."""
        parts = -(-count // self.portion_rows)
        with Spill(self.portion_rows) as inner:
            for run in self._runs:
                if (rows := run.between(key, key)) is not None:
                    inner.add(rows.with_columns((pl.col(HASH) % parts).cast(pl.Int64).alias(KEY)))
            for rows in inner.by_key():
                yield rows.with_columns(pl.lit(key, dtype=pl.Int64).alias(KEY))

    def _bounds(self) -> Iterator[tuple[int, int, int]]:
        """First and last key of each portion, and its rows."""
        if not self._runs:
            return
        keys, inverse = np.unique(np.concatenate([run.keys for run in self._runs]), return_inverse=True)
        counts = np.bincount(inverse, weights=np.concatenate([np.diff(run.starts) for run in self._runs])).astype(int)
        first = rows = 0
        for place, count in enumerate(counts):
            if place > first and rows + count > self.portion_rows:
                yield int(keys[first]), int(keys[place - 1]), int(rows)
                first, rows = place, 0
            rows += count
        yield int(keys[first]), int(keys[-1]), int(rows)

    def _path(self) -> Path:
        if self._folder is None:
            _remove_orphans()
            self._folder = tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-")
        self._files += 1
        return Path(self._folder.name) / f"{self._files}.parquet"


def _remove_orphans() -> None:
    """Removes the folders of this user's processes that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        owner = folder.name.removeprefix(PREFIX).split("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)
