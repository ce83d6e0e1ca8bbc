"""Names samples by their ids where the core, which knows their places alone, has met a NaN or an infinity."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import polars as pl

from dealrec_core import schema
from dealrec_core.errors import NotFinite

SHOWN = 8


@contextmanager
def naming(samples: pl.DataFrame, find: Callable[[], Sequence[int]] = tuple) -> Iterator[None]:
    """Adds the sample_ids to a NotFinite error that concerns some of these samples.

    find: gives the places of those concerned where the error does not know them.
    """
    try:
        yield
    except NotFinite as error:
        rows = error.rows or find()
        if not len(rows):
            raise
        names = ", ".join(samples[schema.SAMPLE_ID][int(row)] for row in rows[:SHOWN])
        raise NotFinite(f"{error}; samples {names}{', …' if len(rows) > SHOWN else ''}") from error
