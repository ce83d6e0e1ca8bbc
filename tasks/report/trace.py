"""Follows one sample through every stage, from the raw line to the tuned model."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from dealrec_core import schema
from dealrec_core.errors import DataError, SourceError
from dealrec_core.ingest import sources
from dealrec_core.lake import Lake, promotions


@dataclass(frozen=True)
class Step:
    """What one stage knows of the sample."""

    stage: str
    facts: list[tuple[str, str]] = field(default_factory=list)


def trace(lake: Lake, sample_id: str) -> list[Step]:
    """One step per stage, in the order of a night.

    Raises:
        DataError: no sample has this id.
    """
    sample = _sample(lake, sample_id)
    return [
        *_events(lake, sample),
        _as_sample(lake, sample),
        *_per_night(
            lake, "influences", sample_id, "influence", lambda row: [("influence", f"{row[schema.INFLUENCE]:.4e}")]
        ),
        *_per_night(
            lake,
            "efforts",
            sample_id,
            "effort",
            lambda row: [("effort", f"{row[schema.EFFORT]:.4f}"), ("model", row[schema.MODEL])],
        ),
        *_per_night(
            lake,
            "coresets",
            sample_id,
            "coreset",
            lambda row: [
                ("score", f"{row[schema.SCORE]:.4f}"),
                ("group", str(row[schema.GROUP])),
                ("reason", row[schema.REASON]),
            ],
        ),
        *_models(lake, sample_id),
    ]


def _sample(lake: Lake, sample_id: str) -> dict[str, Any]:
    if lake.exists("samples"):
        found = lake.scan("samples").filter(pl.col(schema.SAMPLE_ID) == sample_id).collect()
        if len(found):
            return dict(found.row(0, named=True))
    raise DataError(f"no sample '{sample_id}' in {lake.root}; the tables samples and coresets hold them")


def _events(lake: Lake, sample: dict[str, Any]) -> list[Step]:
    """The raw lines of the target and of the event before it, and where they landed."""
    log = lake.scan("interactions").filter(
        (pl.col(schema.USER_ID) == sample[schema.USER_ID]) & (pl.col(schema.TIMESTAMP) <= sample[schema.TIMESTAMP])
    )
    rows = log.filter(
        (pl.col(schema.ITEM_ID) == sample[schema.ITEM_ID]) & (pl.col(schema.TIMESTAMP) == sample[schema.TIMESTAMP])
    ).collect()
    steps = []
    for row in rows.iter_rows(named=True):
        path = _path(lake, row[schema.FILE])
        place = f"{path}, row {row[schema.ROW]}"
        steps.append(Step("raw line", [("file", place), ("text", _raw(path, row[schema.ROW]))]))
        facts = [
            (name, str(row[name]))
            for name in (
                schema.EVENT_ID,
                schema.USER_ID,
                schema.ITEM_ID,
                schema.TIMESTAMP,
                schema.RATING,
                schema.PERIOD,
            )
        ]
        steps.append(Step("interaction", facts))
    return steps


def _as_sample(lake: Lake, sample: dict[str, Any]) -> Step:
    history = [str(item) for item in sample[schema.HISTORY]]
    target = str(sample[schema.ITEM_ID])
    titles = _titles(lake, [*history, target])
    return Step(
        "sample",
        [
            (schema.SAMPLE_ID, str(sample[schema.SAMPLE_ID])),
            ("history", "; ".join(f"{titles.get(item, item)} ({item})" for item in history)),
            ("target", f"{titles.get(target, target)} ({target})"),
            ("time", str(sample[schema.TIMESTAMP])),
        ],
    )


def _per_night(
    lake: Lake, table: str, sample_id: str, stage: str, facts: Callable[[dict[str, Any]], list[tuple[str, str]]]
) -> list[Step]:
    if not lake.exists(table):
        return [Step(stage, [("", "not there yet")])]
    rows = lake.scan(table).filter(pl.col(schema.SAMPLE_ID) == sample_id).collect().sort(schema.NIGHT)
    if rows.is_empty():
        return [
            Step(
                stage,
                [
                    (
                        "",
                        "this sample was not chosen"
                        if table == "coresets"
                        else "not scored: it was not in the train slice",
                    )
                ],
            )
        ]
    return [Step(stage, [("night", row[schema.NIGHT]), *facts(row)]) for row in rows.iter_rows(named=True)]


def _models(lake: Lake, sample_id: str) -> list[Step]:
    """The models that were tuned on this sample, and what the gate said of them."""
    if not lake.exists("coresets"):
        return []
    nights = lake.scan("coresets").filter(pl.col(schema.SAMPLE_ID) == sample_id).select(schema.NIGHT).collect()
    decided = promotions.decisions(lake).join(nights, on=schema.NIGHT, how="semi")
    if decided.is_empty():
        return [Step("model", [("", "no registered model was tuned on this sample")])]
    return [
        Step(
            "model",
            [
                ("night", row[schema.NIGHT]),
                ("version", row["version"]),
                ("bundle", row["bundle"]),
                ("verdict", f"{row['action']}: {row[schema.REASON]}"),
            ],
        )
        for row in decided.iter_rows(named=True)
    ]


def _path(lake: Lake, file: str) -> str:
    found = lake.scan("files").filter(pl.col(schema.FILE) == file).select("path").head(1).collect()
    return str(found["path"][0]) if len(found) else f"file {file[:12]}"


def _raw(path: str, row: int) -> str:
    try:
        return sources.raw_record(path, row)
    except SourceError as error:
        return f"(no longer there: {error})"


def _titles(lake: Lake, item_ids: list[str]) -> dict[str, str]:
    if not lake.exists("items"):
        return {}
    found = lake.scan("items").filter(pl.col(schema.ITEM_ID).is_in(item_ids)).collect()
    return dict(zip(found[schema.ITEM_ID], found[schema.TITLE], strict=True))
