"""Guesses from the files themselves where interactions and items are and what their columns hold: the first settings of a newcomer."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import polars as pl

from dealrec_core.errors import SourceError
from dealrec_core.ingest import sources
from dealrec_core.ingest.raw.batch import FAULT, ROW
from dealrec_core.ingest.times import utc_times
from dealrec_core.settings.sources import ReaderOptions

LOOKED_FILES, LOOKED_BYTES = 50, 2**20
"""Files that are opened, and the text of each that is read."""
DATA = re.compile(r"\.(csv|tsv|txt|dat|jsonl|ndjson|json|parquet|pq)(\.\w+)?$", re.IGNORECASE)
NAMES = {
    "user_id": "user|kund|customer|client|member|visitor|account|reviewer|benutzer",
    "item_id": "item|product|produkt|article|artikel|movie|book|track|song|game|asin|sku",
    "timestamp": "time|date|zeit|datum|created|^ts$|_at$|when",
    "title": "title|titel|name|bezeichnung|label",
    "categories": "categor|kategorie|genre|gruppe|group|department",
    "rating": "rating|stars|score|bewertung",
    "event_type": "event|action|type|vorgang|kind",
}
"""Common names of the columns, by role, as patterns."""
MOSTLY = 0.95
"""Share of values from which a column counts as one of times, or as one of unique values."""


@dataclass(frozen=True)
class Table:
    """Files with one set of columns, by the beginning of the first of them."""

    pattern: str
    size_bytes: int
    frame: pl.DataFrame
    """Its first rows, every value as text."""

    @cached_property
    def times(self) -> list[str]:
        """Columns whose values are times."""
        return [name for name in self.frame.columns if _is_time(self.frame[name])]

    @cached_property
    def keys(self) -> list[str]:
        """Columns whose values differ from row to row, times left out."""
        names = [name for name in self.frame.columns if name not in self.times]
        return [name for name in names if self.frame[name].n_unique() >= MOSTLY * len(self.frame)]


@dataclass
class Guess:
    """The files of interactions and of items, and the column of each role; a role without a column is not certain."""

    interactions: Table
    items: Table | None = None
    columns: dict[str, str] = field(default_factory=dict)
    """user_id, item_id and timestamp of the interactions; rating and event_type where a column is called so."""
    item_columns: dict[str, str] = field(default_factory=dict)
    """item_id, title and categories of the items."""
    choices: dict[str, list[str]] = field(default_factory=dict)
    """For each role of the interactions that is not certain the columns that may have it."""


def guess(root: str, *, interactions: str | None = None, items: str | None = None) -> Guess:
    """Returns what the files below a folder or bucket seem to be.

    interactions, items: the pattern of these files where it is known.

    Raises:
        SourceError: there is no folder, or no file in it has a column of times.
    """
    tables = list(_tables(root))
    named = list(_tables(root, interactions)) if interactions else tables
    logs = [table for table in named if table.times and len(table.frame.columns) > 2]
    if not logs:
        seen = (
            "; ".join(f"{table.pattern} has {', '.join(table.frame.columns)}" for table in tables[:3]) or "no data file"
        )
        message = f"no file below '{root}' has times beside users and items ({seen}); name a folder with interactions"
        raise SourceError(message)
    others = list(_tables(root, items)) if items else tables
    pairs = [found for log in logs for found in _pairs(log, others)]
    if pairs:
        _, log, column, titles, key = max(pairs, key=lambda pair: pair[0])
    else:
        log, column, titles, key = max(logs, key=lambda table: table.size_bytes), None, None, None
    found = Guess(log, titles)
    _columns_of_interactions(found, column)
    if titles is not None and key is not None:
        texts = [name for name in titles.frame.columns if name != key and name not in titles.times]
        longest = max(texts, key=lambda name: titles.frame[name].str.len_chars().mean() or 0, default=key)
        rest = {"title": _named(texts, "title") or longest}
        if group := _named([name for name in texts if name != rest["title"]], "categories"):
            rest["categories"] = group
        found.item_columns = {"item_id": key, **rest}
    return found


def separator_of(categories: pl.Series) -> str | None:
    """Returns the sign that stands between the categories of an item, None where none is seen."""
    counts = {sign: int(categories.str.contains(sign, literal=True).sum()) for sign in ("|", ";", ",", "/")}
    best = max(counts, key=lambda sign: counts[sign])
    return best if counts[best] > len(categories) / 10 else None


def _tables(root: str, pattern: str | None = None) -> Iterable[Table]:
    """The files of each pattern, by their beginning; only those of one pattern where it is named."""
    base = root.rstrip("/") + "/"
    groups: dict[str, list[sources.RawFile]] = {}
    for file in sources.find(root, [pattern] if pattern else ["**/*", "*"]):
        if pattern or DATA.search(file.path):
            groups.setdefault(pattern or _pattern(file.path, base), []).append(file)
    for pattern, files in list(groups.items())[:LOOKED_FILES]:
        try:
            batch = next(sources.batches(files[0].path, options=ReaderOptions(), chunk_bytes=LOOKED_BYTES), None)
        except SourceError:  # what cannot be read is no table; `doctor --sources` says why
            continue
        if batch is not None and batch.frame.height:
            frame = batch.frame.filter(pl.col(FAULT).is_null()).drop(ROW, FAULT)
            scalar = [name for name, kind in frame.schema.items() if not kind.is_nested()]
            texts = frame.select(pl.col(scalar).cast(pl.String, strict=False))
            yield Table(pattern, sum(file.size_bytes for file in files), texts)


def _pattern(path: str, base: str) -> str:
    """The path below the root with a * for every number or date, which later files will have another of."""
    place = path.rfind(base)
    below = path[place + len(base) :] if place >= 0 else path.rsplit("/", 1)[-1]
    below = re.sub(r"\d[\d\-_.:T]*(?=[^\d]|$)", lambda found: "*." if found[0].endswith(".") else "*", below)
    return re.sub(r"\*+", "*", below)


def _is_time(column: pl.Series) -> bool:
    values = column.drop_nulls()
    return len(values) > 0 and utc_times(values).is_not_null().sum() >= MOSTLY * len(column)


def _pairs(log: Table, tables: list[Table]) -> Iterable[tuple[tuple[bool, float], Table, str, Table, str]]:
    """Columns of a log whose values are keys of another table, with how sure it is that the table is that of the items."""
    for other in tables:
        texts = [name for name in other.frame.columns if name not in other.times]
        if other.pattern == log.pattern or len(texts) < 2:
            continue
        for key in other.keys:
            known = other.frame[key].unique().implode()
            for name in log.frame.columns:
                if name not in log.times:
                    values = log.frame[name].drop_nulls().unique()
                    share = int(values.is_in(known).sum()) / max(len(values), 1)
                    if share >= 0.5 and not _named([name], "user_id"):
                        yield (_named(texts, "title") is not None, share), log, name, other, key


def _columns_of_interactions(found: Guess, item: str | None) -> None:
    log = found.interactions
    others = [name for name in log.frame.columns if name not in log.times]
    candidates = {"timestamp": log.times, "item_id": [item] if item else others}
    for role in ("timestamp", "item_id"):
        _settle(found, role, candidates[role])
    rest = [name for name in others if name != found.columns.get("item_id")]
    _settle(found, "user_id", rest)
    rest = [name for name in rest if name != found.columns.get("user_id")]
    for role in ("rating", "event_type"):
        if name := _named(rest, role):
            found.columns[role] = name


def _settle(found: Guess, role: str, candidates: list[str]) -> None:
    """Gives a role its column where only one can have it or only one is called so; else the candidates are kept."""
    name = candidates[0] if len(candidates) == 1 else _named(candidates, role)
    if name is not None:
        found.columns[role] = name
    else:
        found.choices[role] = candidates


def _named(names: list[str], role: str) -> str | None:
    """The one column of these that is called so, None where none or several are."""
    if role in names:
        return role
    called = [name for name in names if re.search(NAMES[role], name, re.IGNORECASE)]
    return called[0] if len(called) == 1 else None
