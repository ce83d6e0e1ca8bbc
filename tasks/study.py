"""Runs a study's cells, keeps what finished, logs every cell to MLflow, and writes tables and plots."""

from functools import lru_cache
from pathlib import Path

import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from dealrec_core import schema, settings
from dealrec_core.errors import DataError
from dealrec_core.lake import Lake, nights
from dealrec_core.samples import items, split
from dealrec_core.settings.run import RegistryConfig
from dealrec_core.study import data, plots, report, results
from dealrec_core.study.config import Cell, StudyConfig
from dealrec_core.study.data import StudyData
from dealrec_core.study.workshop import Workshop
from tasks import registry
from tasks.ingest import boundaries_of, samples_of

TABLE_MD, TABLE_CSV, CELLS_CSV = "table.md", "table.csv", "cells.csv"


@task(name="study cell", cache_policy=NO_CACHE)
def run_cell(config: StudyConfig, cell: Cell) -> bool:
    """Runs a cell unless it has finished before; whether it ran. It is in MLflow before it counts as finished."""
    log = get_run_logger()
    if results.find(config, cell) is not None:
        log.info("cell %s is done already: kept", cell.name)
        return False
    log.info("cell %s: start", cell.name)
    found = _workshop(config.model_dump_json(), cell.dataset).run(cell)
    if config.tracking_uri is not None:
        metrics = {name: value for name, value in found.facts.items() if isinstance(value, int | float)}
        own = {f"coreset.{name}": value for name, value in config.selection(cell).model_dump().items()}
        texts = {name: value for name, value in found.facts.items() if isinstance(value, str)}
        place = RegistryConfig(
            tracking_uri=config.tracking_uri,
            experiment=config.experiment,
            artifacts=str(Path(config.folder) / "mlflow-artifacts"),
        )
        parameters = {**cell._asdict(), **own, **texts, "study": config.name}
        metrics = {name.replace(" ", "_"): float(value) for name, value in metrics.items()}
        registry.log_cell(place, results.key(config, cell), parameters=parameters, metrics=metrics)
    results.write(config, cell, per_user=found.per_user, facts=found.facts)
    log.info("cell %s: done, %s %.4f", cell.name, config.metric, found.facts[config.metric])
    return True


@task(name="study tables", cache_policy=NO_CACHE)
def write_tables(config: StudyConfig) -> str:
    """Writes table.md, table.csv, cells.csv and plots below the study's folder; returns the Markdown."""
    folder = Path(config.folder)
    folder.mkdir(parents=True, exist_ok=True)
    frame = report.table(config)
    text = report.markdown(config, frame)
    (folder / TABLE_MD).write_text(text + "\n", encoding="utf-8")
    if not frame.is_empty():
        frame.write_csv(folder / TABLE_CSV)
        rows = [{**found.cell._asdict(), **found.facts} for found in report.finished(config)]
        pl.DataFrame(rows, infer_schema_length=None).write_csv(folder / CELLS_CSV)
        plots.write(frame, folder, metric=config.metric, reference=config.reference)
    return text


@lru_cache(maxsize=4)
def _workshop(described: str, dataset: str) -> Workshop:
    """One for all cells of a data set in this process, so that nothing is read twice."""
    config = StudyConfig.model_validate_json(described)
    own = config.datasets[dataset]
    found = data.released(dataset, own, seed=config.seed) if own.kind == "released" else _of_night(dataset, config)
    return Workshop(found, config)


def _of_night(name: str, config: StudyConfig) -> StudyData:
    """The samples of a night, with the slices that the night itself uses."""
    own = config.datasets[name]
    lake = Lake(settings.load(own.config).lake.root)
    known = [each for each in nights.nights(lake) if each.find("samples") and own.night in (None, each.name)]
    if not known:
        raise DataError(f"no night '{own.night or 'with samples'}' in {lake.root}; `dealrec status` lists the nights")
    tonight = known[-1]
    log = lake.scan("interactions", tonight.need("ingest").version)
    bounds = boundaries_of(tonight)
    train = log.filter(pl.col(schema.TIMESTAMP) < bounds.validation_start).collect()
    seen = log.filter(pl.col(schema.TIMESTAMP) < bounds.test_start).select(schema.ITEM_ID, schema.TIMESTAMP).collect()
    version = int(tonight.need("ingest").facts["items version"] or 0)
    titles = pl.DataFrame(schema=schema.ITEMS) if version < 0 else lake.scan("items", version).collect()
    old = train.filter(pl.col(schema.TIMESTAMP) <= train[schema.TIMESTAMP].median())
    order = [schema.USER_ID, schema.TIMESTAMP, schema.ITEM_ID, schema.EVENT_ID]
    past = old.sort(order).group_by(schema.USER_ID, maintain_order=True).agg(schema.ITEM_ID)[schema.ITEM_ID].to_list()
    recent = samples_of(tonight, "validation").sort(schema.TIMESTAMP, schema.SAMPLE_ID).tail(own.risk_samples)
    counts = train.group_by(schema.ITEM_ID).len()
    return StudyData(
        name=name,
        catalogue=items.catalogue(titles.sort(schema.ITEM_ID), seen),
        pool=samples_of(tonight, "train").sort(schema.SAMPLE_ID),
        past=[each for each in past if len(each) > 1],
        recent=recent,
        cases=split.cases(log, bounds, history_length=own.history_length, users=own.users, seed=config.seed),
        counts=dict(zip(counts[schema.ITEM_ID], counts["len"], strict=True)),
    )
