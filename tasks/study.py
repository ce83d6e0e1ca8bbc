"""Runs a study's cells, keeps what finished, logs every cell to MLflow, and writes tables and plots."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from dealrec_core import schema, settings
from dealrec_core.errors import DataError
from dealrec_core.lake import Lake
from dealrec_core.lake.nights import nights
from dealrec_core.recommenders.backend import older_half
from dealrec_core.samples import split
from dealrec_core.settings.run import RegistryConfig
from dealrec_core.study import data, plots, report, results
from dealrec_core.study.config import Cell, DatasetConfig, Judges, StudyConfig
from dealrec_core.study.data import StudyData
from dealrec_core.study.markdown import markdown
from dealrec_core.study.workshop import Workshop
from tasks import registry
from tasks.registry import Content
from tasks.tonight import Tonight

TABLE_MD, TABLE_CSV, POWER_CSV, CELLS_CSV = "table.md", "table.csv", "power.csv", "cells.csv"


@task(name="study cell", cache_policy=NO_CACHE)
def run_cell(config: StudyConfig, cell: Cell) -> bool:
    """Runs a cell unless it has finished before; whether it ran. It is in MLflow before it counts as finished."""
    log = get_run_logger()
    if results.find(config, cell) is not None:
        log.info("cell %s has finished before: its result is used again", cell.name)
        return False
    log.info("cell %s: start", cell.name)
    per_user, facts = _workshop(config.model_dump_json(), cell.dataset).run(cell)
    if config.tracking_uri is not None:
        _log_cell(config, cell, facts)
    results.write(config, cell, per_user=per_user, facts=facts)
    metric = report.metrics(config)[0]
    log.info("cell %s: done, %s %.4f", cell.name, metric, facts[metric])
    return True


def _log_cell(config: StudyConfig, cell: Cell, facts: Mapping[str, Any]) -> None:
    artifacts, address = str(Path(config.folder) / "mlflow-artifacts"), str(config.tracking_uri)
    place = RegistryConfig(tracking_uri=address, experiment=config.experiment, artifacts=artifacts)
    selection = {f"coreset.{name}": value for name, value in config.selection(cell).model_dump().items()}
    texts = {name: value for name, value in facts.items() if isinstance(value, str)}
    figures = {name: float(value) for name, value in facts.items() if isinstance(value, int | float)}
    parameters = {**cell._asdict(), **selection, **texts, "study": config.name}
    metrics = {name.replace(" ", "_").replace("@", "_at_"): value for name, value in figures.items()}
    registry.log_cell(place, results.key(config, cell), Content(parameters=parameters, metrics=metrics))


@task(name="study tables", cache_policy=NO_CACHE)
def write_tables(config: StudyConfig) -> str:
    """Writes table.md, table.csv, power.csv, cells.csv and plots to `<folder>/<name>`; returns the Markdown."""
    folder = Path(config.folder) / config.name
    folder.mkdir(parents=True, exist_ok=True)
    frame = report.table(config)
    power = report.power(config)
    text = markdown(config, frame, power)
    (folder / TABLE_MD).write_text(text + "\n", encoding="utf-8")
    if not frame.is_empty():
        frame.write_csv(folder / TABLE_CSV)
        power.write_csv(folder / POWER_CSV)
        rows = [{**result.cell._asdict(), **result.facts} for result in report.finished(config)]
        pl.DataFrame(rows, infer_schema_length=None).write_csv(folder / CELLS_CSV)
        plots.write(frame, folder, metric=report.metrics(config)[0], reference=config.reference)
    return text


@lru_cache(maxsize=4)
def _workshop(described: str, dataset: str) -> Workshop:
    """One workshop for all cells of a data set in this process, so that nothing is read twice."""
    config = StudyConfig.model_validate_json(described)
    section = config.datasets[dataset]
    read = data.released if section.kind == "released" else _of_night
    return Workshop(read(dataset, section, seed=config.seed, judges=config.judges), config)


def _of_night(name: str, section: DatasetConfig, *, seed: int, judges: Judges) -> StudyData:
    """The samples of a night, with the slices that the night itself uses."""
    lake = Lake(settings.load(section.config).lake.root)
    sampled = [night for night in nights(lake) if night.find("samples") and section.night in (None, night.name)]
    if not sampled:
        message = f"no night '{section.night or 'with samples'}' in {lake.root}; `dealrec status` lists the nights"
        raise DataError(message)
    tonight, length = Tonight(sampled[-1]), section.history_length
    held_out = split.cases(tonight.log.lazy(), tonight.boundaries, history_length=length, users=None, seed=seed)
    judging = data.judging(held_out, judges, seed=seed)
    return StudyData(
        name=name,
        catalogue=tonight.full_catalogue,
        pool=tonight.train,
        past=older_half(tonight.train),
        recent=tonight.validation.sort(schema.TIMESTAMP, schema.SAMPLE_ID).tail(section.risk_samples),
        cases=split.drawn(judging, section.users, np.random.default_rng(seed)),
        counts=tonight.train_counts,
    )
