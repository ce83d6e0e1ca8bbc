"""Estimates how many rows raw files hold, from the beginning of one file of each form."""

import os
from collections.abc import Iterable
from contextlib import suppress

import fsspec
import polars as pl

from dealrec_core.errors import SourceError
from dealrec_core.ingest.raw import container
from dealrec_core.ingest.sources import RawFile
from dealrec_core.lake.store import fsspec_options, s3_options

SAMPLED_BYTES = 2**22
"""Unpacked bytes of a text file whose lines are counted."""


def estimate(files: Iterable[RawFile]) -> int:
    """Returns about how many rows files hold: the bytes of a row are those of the largest file of each ending that can be read.

    An ending without such a file counts as no rows: a night says what is wrong with its files.
    """
    by_ending: dict[str, list[RawFile]] = {}
    for file in files:
        by_ending.setdefault(os.path.basename(file.path).partition(".")[2], []).append(file)
    return round(sum(_estimate(alike) for alike in by_ending.values()))


def _estimate(alike: list[RawFile]) -> float:
    for file in sorted(alike, key=lambda file: file.size_bytes, reverse=True):
        with suppress(SourceError, pl.exceptions.PolarsError, OSError):
            rows, size_bytes = _rows(file)
            return sum(file.size_bytes for file in alike) * rows / max(size_bytes, 1)
    return 0.0


def _rows(file: RawFile) -> tuple[int, int]:
    """The rows in the first bytes of a file, and the number of these bytes."""
    with fsspec.open(file.path, "rb", **fsspec_options(file.path)) as opened:
        content = container.unpack(opened, file.path)
        first = next(content.chunks(SAMPLED_BYTES), b"")
        read = opened.tell()
    if first.startswith(b"PAR1") and not content.packing:
        footer = pl.scan_parquet(file.path, storage_options=s3_options(file.path)).select(pl.len())
        return int(footer.collect().item()), file.size_bytes
    return first.count(b"\n"), min(read, file.size_bytes)
