"""Follows one sample through every stage, from the raw line to the tuned model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from dealrec_core import schema
from dealrec_core.errors import DataError, SourceError
from dealrec_core.ingest import sources
from dealrec_core.lake import Lake, promotions
from dealrec_core.settings.sources import ReaderOptions

Row = dict[str, Any]
EVENT = (schema.EVENT_ID, schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP, schema.RATING, schema.PERIOD)
SCORED = {
    "influence": ("influences", {schema.INFLUENCE: "{:.4e}"}),
    "effort": ("efforts", {schema.EFFORT: "{:.4f}", schema.MODEL: "{}"}),
    "coreset": ("coresets", {schema.SCORE: "{:.4f}", schema.GROUP: "{}", schema.REASON: "{}"}),
}
"""Stages that write one row a night and sample: their table, and the columns that are shown."""


@dataclass(frozen=True)
class Step:
    """The facts that one stage knows about the sample."""

    stage: str
    facts: list[tuple[str, str]]


def trace(lake: Lake, sample_id: str, options: ReaderOptions | None = None) -> list[Step]:
    """One step per stage, in the order of a night.

    options: how raw files are read, as in `sources.interactions`; None tells all of it from the files.

    Raises:
        DataError: no sample has this id.
    """
    samples = _rows(lake, "samples", pl.col(schema.SAMPLE_ID) == sample_id)
    if not samples:
        raise DataError(f"no sample '{sample_id}' in {lake.root}; look for one in the tables samples and coresets")
    scored = [step for stage in SCORED for step in _scored(lake, stage, sample_id)]
    return [*_events(lake, samples[0], options), _sample(lake, samples[0]), *scored, *_models(lake, sample_id)]


def _events(lake: Lake, sample: Row, options: ReaderOptions | None) -> list[Step]:
    """The raw lines of the target, and the rows that they became."""
    names = (schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP)
    is_target = pl.all_horizontal(pl.col(name) == sample[name] for name in names)
    steps = []
    for event in _rows(lake, "interactions", is_target):
        file, number = event[schema.FILE], event[schema.ROW]
        paths = _rows(lake, "files", pl.col(schema.FILE) == file)
        path = str(paths[0]["path"]) if paths else f"file {file[:12]}"
        steps.append(Step("raw line", [("file", f"{path}, row {number}"), ("text", _raw(path, number, options))]))
        steps.append(Step("interaction", [(name, str(event[name])) for name in EVENT]))
    return steps


def _sample(lake: Lake, sample: Row) -> Step:
    item_ids = [*sample[schema.HISTORY], sample[schema.ITEM_ID]]
    rows = _rows(lake, "items", pl.col(schema.ITEM_ID).is_in(item_ids))
    titles = {row[schema.ITEM_ID]: row[schema.TITLE] for row in rows}
    *history, target = [f"{titles.get(item, item)} ({item})" for item in item_ids]
    facts = {"history": "; ".join(history), "target": target, "time": str(sample[schema.TIMESTAMP])}
    return Step("sample", [(schema.SAMPLE_ID, str(sample[schema.SAMPLE_ID])), *facts.items()])


def _scored(lake: Lake, stage: str, sample_id: str) -> list[Step]:
    """One step for every night that wrote a row about the sample, or one that says why there is none."""
    table, columns = SCORED[stage]
    if not lake.exists(table):
        return [Step(stage, [("", "not there yet")])]
    rows = _rows(lake, table, pl.col(schema.SAMPLE_ID) == sample_id, order=schema.NIGHT)
    if not rows:
        absent = "this sample was not chosen" if stage == "coreset" else "not scored: it was not in the train slice"
        return [Step(stage, [("", absent)])]
    return [Step(stage, [("night", row[schema.NIGHT]), *_shown(row, columns)]) for row in rows]


def _models(lake: Lake, sample_id: str) -> list[Step]:
    """The models with this sample in their coresets, and the gate's verdict on them."""
    nights = [row[schema.NIGHT] for row in _rows(lake, "coresets", pl.col(schema.SAMPLE_ID) == sample_id)]
    decisions = promotions.decisions(lake).filter(pl.col(schema.NIGHT).is_in(nights))
    if decisions.is_empty() and lake.exists("coresets"):
        absent = (
            "no registered model has this sample in its coreset; it may have learnt it as one of the newest samples"
        )
        return [Step("model", [("", absent)])]
    columns = {schema.NIGHT: "{}", "version": "{}", "bundle": "{}"}
    return [
        Step("model", [*_shown(row, columns), ("decision", row["action"]), ("why", row[schema.REASON])])
        for row in decisions.iter_rows(named=True)
    ]


def _rows(lake: Lake, table: str, condition: pl.Expr, *, order: str | None = None) -> list[Row]:
    """The rows of a table that meet a condition; none where there is no table."""
    if not lake.exists(table):
        return []
    rows = lake.scan(table).filter(condition).collect()
    return (rows.sort(order) if order else rows).to_dicts()


def _shown(row: Row, columns: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, "none" if row[name] is None else form.format(row[name])) for name, form in columns.items()]


def _raw(path: str, number: int, options: ReaderOptions | None) -> str:
    try:
        return sources.raw_record(path, number, options)
    except SourceError as error:
        return f"(no longer there: {error})"
