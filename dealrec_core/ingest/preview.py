"""Shows which rows of raw files would be written and which would not, without a lake: a first look at a new mapping."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

import polars as pl

from dealrec_core import schema
from dealrec_core.errors import DataError
from dealrec_core.ingest import events, item_files, sources
from dealrec_core.ingest.delivery import Checked, filter_warnings, raw_columns, sort_out
from dealrec_core.ingest.raw.batch import ColumnMissing, Unreadable
from dealrec_core.ingest.sources import RawFile
from dealrec_core.settings.sources import ReaderOptions, SourcesConfig

LOOKED_FILES = 200
"""Most files that a look opens, evenly over all of them: a rare one that is different should be among them."""
LOOKED_BYTES = 2**20
"""Text of each file of interactions that is looked at."""
WHOLE_BYTES = 2**28
"""Item files that are larger than this together are not read to their ends."""


@dataclass(frozen=True)
class Preview:
    """The beginning of one raw file, divided into good and bad rows."""

    file: RawFile
    records: int
    """Records of the block."""
    filtered: int
    landing: pl.DataFrame
    """The first rows that would be written, as they would be."""
    quarantined: int
    bad: pl.DataFrame
    """The first rows that would go to quarantine: row, column, reason, raw."""
    form: str = ""
    """Detected format, encoding, delimiter and quoting."""


@dataclass
class Look:
    """The result of a look at the sources: the rows as they would be stored, and the warnings and errors of a night."""

    interactions: list[Preview] = field(default_factory=list)
    """The first files, and those with a problem."""
    items: list[Preview] = field(default_factory=list)
    mapping: dict[str, str] = field(default_factory=dict)
    """The raw column of each column."""
    files: int = 0
    """Files of interactions that were looked at."""
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Why a night would stop."""


@dataclass
class _Rows:
    """Counts over the rows of all files that were looked at."""

    readable: int = 0
    filtered: int = 0
    bad_bytes: float = 0
    """Bytes of the files, each by its share of bad rows."""
    bytes: int = 0
    event_types: set[str] = field(default_factory=set)
    days: Counter[date] = field(default_factory=Counter)
    """Good rows by day."""
    event_ids: Counter[str] = field(default_factory=Counter)
    """Rows with an id of their event, and how many of these ids differ in each file."""
    item_ids: set[str] = field(default_factory=set)
    filled: Counter[str] = field(default_factory=Counter)


def preview(config: SourcesConfig, *, files: int, rows: int) -> list[Preview]:
    """Returns `rows` good and bad rows from the beginning of each of the first files; nothing is written.

    Raises:
        SourceError: no file matches, or one cannot be read.
        SettingsError: a mapped column is not there, or the filter makes no sense.
    """
    return [_preview(file, config, rows, _Rows()) for file in _files(config)[:files]]


def look(config: SourcesConfig, *, files: int = 3, rows: int = 5, today: date | None = None) -> Look:
    """Returns what a night would do with the raw files, as far as their beginnings show it; nothing is written.

    today: times after this day are reported as future.

    Raises:
        SourceError: no file matches.
        SettingsError: a mapped column is in no file, or the filter makes no sense.
    """
    present = _files(config)
    mapping = {name: raw for name in events.FIELDS if (raw := getattr(config.interactions, name)) is not None}
    found, total, missing = Look(mapping=mapping), _Rows(), []
    for place, file in enumerate(_spread(present)):
        found.files += 1
        total.bytes += file.size_bytes
        try:
            shown = _preview(file, config, rows, total)
        except (ColumnMissing, Unreadable) as error:
            missing.append(error)
            total.bad_bytes += file.size_bytes
            shown = _refused(file, str(error))
        if place < files or (shown.records == shown.quarantined > 0 and len(found.interactions) < 2 * files):
            found.interactions.append(shown)
    if len(missing) == found.files and isinstance(missing[0], ColumnMissing):
        raise missing[0]
    _judge(found, total, config, [str(error) for error in missing], today or date.max)
    _look_at_items(found, total, config, rows)
    for shown in [*found.interactions, *found.items]:
        if "cp1252" in shown.form:
            found.warnings.append(
                f"'{shown.file.path}' is read as Windows-1252; set encoding in [sources] if it has another encoding"
            )
    return found


def _files(config: SourcesConfig) -> list[RawFile]:
    present = sources.find(config.root, config.interactions.files)
    if not present:
        raise sources.no_file(config)
    return present


def _spread(files: Sequence[RawFile]) -> list[RawFile]:
    """At most LOOKED_FILES of the files: the first, the last, and evenly between them."""
    if len(files) <= LOOKED_FILES:
        return list(files)
    step = (len(files) - 1) / (LOOKED_FILES - 1)
    return [files[round(place * step)] for place in range(LOOKED_FILES)]


def _preview(file: RawFile, config: SourcesConfig, rows: int, total: _Rows) -> Preview:
    source, constants = config.interactions, sources.folder_values(file.path)
    columns = raw_columns(source, constants)
    batch = next(sources.batches(file.path, columns=columns, options=source, chunk_bytes=LOOKED_BYTES), None)
    if batch is None:
        return Preview(file, 0, 0, pl.DataFrame(schema=events.EVENTS), 0, pl.DataFrame(schema=events.BAD_ROWS))
    checked = sort_out(batch, source, constants)
    _add(total, file, checked, batch.frame)
    landing = checked.good.head(rows).drop(schema.EVENT_ID) if source.event_id is None else checked.good.head(rows)
    bad = checked.bad
    return Preview(file, batch.frame.height, checked.filtered, landing, bad.height, bad.head(rows), batch.form)


def _add(total: _Rows, file: RawFile, checked: Checked, frame: pl.DataFrame) -> None:
    total.readable += checked.good.height + checked.filtered
    total.filtered += checked.filtered
    total.bad_bytes += file.size_bytes * checked.bad.height / max(frame.height, 1)
    total.event_types |= checked.event_types
    total.days.update(dict(checked.good[schema.TIMESTAMP].dt.date().value_counts().iter_rows()))
    ids = checked.good[schema.EVENT_ID].drop_nulls()
    total.event_ids.update(rows=len(ids), different=ids.n_unique())
    total.item_ids |= set(checked.good[schema.ITEM_ID].unique())
    total.filled.update({name: len(frame) - frame[name].null_count() for name in frame.columns})


def _refused(file: RawFile, reason: str) -> Preview:
    bad = pl.DataFrame([{schema.ROW: 0, schema.COLUMN: "", schema.REASON: reason, schema.RAW: ""}], events.BAD_ROWS)
    return Preview(file, 1, 0, pl.DataFrame(schema=events.EVENTS), 1, bad, "unreadable")


def _judge(found: Look, total: _Rows, config: SourcesConfig, refused: list[str], today: date) -> None:
    """Adds the warnings and problems of the interactions."""
    if not total.readable and not total.bad_bytes:
        found.problems.append(
            f"no record in any of the {found.files} files that were looked at; is it the right pattern?"
        )
    future = sum(count for day, count in total.days.items() if day > today)
    if future > config.max_bad_fraction * total.readable:
        found.warnings.append(
            f"{future:,} of {total.readable:,} rows are later than today, the last on {max(total.days)}, and wait until that day; "
            "is the form of the times right?"
        )
    share = total.bad_bytes / total.bytes if total.bytes else 0
    if share > config.max_bad_fraction:
        first = next((shown.bad[schema.REASON][0] for shown in found.interactions if shown.bad.height), "")
        found.problems.append(
            f"about {share:.0%} of the rows would be bad, more than sources.max_bad_fraction = {config.max_bad_fraction:g}; "
            f"first: {first}"
        )
    found.warnings += refused[:3]
    odd = filter_warnings(config.interactions, total.readable, total.filtered, total.event_types)
    all_filtered = total.readable > 0 and total.readable == total.filtered
    (found.problems if all_filtered else found.warnings).extend(odd)
    empty = [raw for raw in found.mapping.values() if total.filled and total.filled[raw] == 0 and raw in total.filled]
    if total.event_ids["different"] < total.event_ids["rows"] / 2:
        found.warnings.append(
            f"column '{config.interactions.event_id}' has {total.event_ids['different']:,} values in {total.event_ids['rows']:,} rows: "
            "rows with one event id are one event; is event_id the right column?"
        )
    found.warnings += [f"column '{raw}' has no value in any record that was looked at" for raw in empty]
    if hidden := sources.hidden(config.root, config.interactions.files):
        found.warnings.append(
            f"{len(hidden)} files are not read, because their names say that they hold no data, for instance {hidden[0].path}"
        )


def _look_at_items(found: Look, total: _Rows, config: SourcesConfig, rows: int) -> None:
    """Adds the item files, what is wrong with them, and how many of the looked-at items have no title there."""
    if config.items is None:
        return
    files = sources.find(config.root, config.items.files)
    if not files:
        found.warnings.append(f"no file in '{config.root}' matches {config.items.files}; set sources.items.files")
    is_whole = sum(file.size_bytes for file in files) <= WHOLE_BYTES
    titled: set[str] = set()
    for file in _spread(files):
        try:
            parsed = item_files.parsed(file, "", config.items, batches=None if is_whole else 1)
            item_files.check(parsed, config, file)
        except (ColumnMissing, DataError) as error:
            found.problems.append(str(error))
            continue
        good = parsed.filter(pl.col(schema.REASON).is_null())
        bad = parsed.filter(pl.col(schema.REASON).is_not_null()).with_columns(pl.lit("").alias(schema.COLUMN))
        titled |= set(good.filter(pl.col(schema.TITLE) != "")[schema.ITEM_ID])
        shown = good.select(schema.ROW, schema.ITEM_ID, schema.TITLE, schema.CATEGORIES).head(rows)
        names = events.BAD_ROWS.names()
        found.items.append(
            Preview(file, parsed.height, 0, shown, bad.height, bad.select(names).head(rows), _form(file, config.items))
        )
    untitled = total.item_ids - titled
    if is_whole and total.item_ids and len(files) <= LOOKED_FILES:
        said = untitled_warning(len(untitled), len(total.item_ids), config)
        found.warnings += [f"{said}, such as '{min(untitled)}'"] if said else []


def _form(file: RawFile, options: ReaderOptions) -> str:
    batch = next(sources.batches(file.path, options=options, chunk_bytes=LOOKED_BYTES), None)
    return batch.form if batch else "no record"


def untitled_warning(untitled: int, items: int, config: SourcesConfig) -> str | None:
    """Returns a sentence where too many items of the log have no title (sources.max_untitled_fraction)."""
    if untitled <= config.max_untitled_fraction * items:
        return None
    return (
        f"{untitled:,} of {items:,} items of the log have no title in the item files, more than sources.max_untitled_fraction = "
        f"{config.max_untitled_fraction:g}; are their ids written in another way there?"
    )
