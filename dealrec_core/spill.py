"""Sorts more rows than fit into memory into portions of consecutive periods, through files on this machine's disk."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

KEY = "\x00key"
"""Sorting key of a row (Int64): its period, then its bucket. Rows that may be duplicates of each other have the same."""
BUCKETS = 256
RUN_ROWS = 2_000_000
PORTION_ROWS = 1_000_000


@dataclass
class Run:
    """Rows sorted by KEY, in memory or in a file, with where each key begins."""

    keys: np.ndarray
    starts: np.ndarray  # (keys + 1,)
    rows: pl.DataFrame | Path

    def between(self, first: int, last: int) -> pl.DataFrame:
        """The rows with first <= KEY <= last."""
        low, high = np.searchsorted(self.keys, first, "left"), np.searchsorted(self.keys, last, "right")
        start, length = int(self.starts[low]), int(self.starts[high] - self.starts[low])
        if isinstance(self.rows, pl.DataFrame):
            return self.rows.slice(start, length)
        return pl.scan_parquet(self.rows).slice(start, length).collect()


@dataclass
class Spill:
    """Takes rows in any order, gives them back by KEY; at most RUN_ROWS of them wait in memory."""

    folder: tempfile.TemporaryDirectory[str] | None = None
    _runs: list[Run] = field(default_factory=list)
    _waiting: list[pl.DataFrame] = field(default_factory=list)
    _height: int = 0

    def __enter__(self) -> "Spill":
        return self

    def __exit__(self, *_: object) -> None:
        if self.folder is not None:
            self.folder.cleanup()

    def add(self, frame: pl.DataFrame) -> None:
        """Takes rows that have a KEY; all frames have the same columns."""
        self._waiting.append(frame)
        self._height += frame.height
        if self._height >= RUN_ROWS:
            run = self._sorted()
            assert isinstance(run.rows, pl.DataFrame)
            path = self._folder() / f"{len(self._runs)}.parquet"
            run.rows.write_parquet(path, compression="lz4", row_group_size=2**16, statistics=False)
            run.rows = path
            self._runs.append(run)

    def portions(self) -> Iterator[pl.DataFrame]:
        """All rows by KEY, about PORTION_ROWS at a time, no key in two portions; can be asked again."""
        if self._waiting:
            self._runs.append(self._sorted())
        for first, last in self._bounds():
            yield pl.concat([run.between(first, last) for run in self._runs])

    def _sorted(self) -> Run:
        rows = pl.concat(self._waiting).sort(KEY)
        self._waiting, self._height = [], 0
        keys, starts = np.unique(rows[KEY].to_numpy(), return_index=True)
        return Run(keys, np.append(starts, rows.height), rows)

    def _bounds(self) -> Iterator[tuple[int, int]]:
        """First and last key of each portion: whole periods where they fit, else buckets of one."""
        if not self._runs:
            return
        keys = np.concatenate([run.keys for run in self._runs])
        counts = np.concatenate([np.diff(run.starts) for run in self._runs])
        keys, inverse = np.unique(keys, return_inverse=True)
        counts = np.bincount(inverse, weights=counts).astype(int)
        of_period = dict(zip(*_summed(keys // BUCKETS, counts), strict=True))
        first, rows = int(keys[0]), 0
        for place, key in enumerate(keys):
            period = of_period[key // BUCKETS]
            is_new_period = place > 0 and keys[place - 1] // BUCKETS != key // BUCKETS
            coming = period if period <= PORTION_ROWS else counts[place]
            may_cut = is_new_period or period > PORTION_ROWS
            if rows and may_cut and rows + coming > PORTION_ROWS:
                yield first, int(keys[place - 1])
                first, rows = int(key), 0
            rows += counts[place]
        yield first, int(keys[-1])

    def _folder(self) -> Path:
        if self.folder is None:
            self.folder = tempfile.TemporaryDirectory(prefix="dealrec-ingest-")
        return Path(self.folder.name)


def _summed(groups: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    distinct, inverse = np.unique(groups, return_inverse=True)
    return distinct, np.bincount(inverse, weights=counts).astype(int)
