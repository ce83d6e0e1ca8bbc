"""What MLflow is told of a night: a run per night, one below it per stage, with the table versions that each read."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dealrec_core.lake.nights import Night, Snapshot
from tasks import registry
from tasks.registry import Input

READS = {
    "samples": ("ingest",),
    "surrogate": ("samples",),
    "influence": ("samples",),
    "effort": ("samples",),
    "coreset": ("influence", "effort"),
    "fine_tune": ("coreset", "samples"),
    "evaluation": ("ingest",),
    "promotion": ("evaluation",),
}
"""The stages whose tables a stage reads."""
SETTINGS = {
    "ingest": ("sources", "lake"),
    "samples": ("samples",),
    "surrogate": ("surrogate",),
    "base_model": ("language_model",),
    "influence": ("influence",),
    "effort": ("effort",),
    "coreset": ("coreset",),
    "fine_tune": ("fine_tune", "recommender"),
    "evaluation": ("evaluation",),
    "promotion": ("gate",),
}
"""The sections of the settings that a stage follows."""


def log_stage(night: Night, snapshot: Snapshot) -> str:
    """The id of the MLflow run of a finished stage, below the night's; made once."""
    settings = night.config.model_dump(mode="json", include=set(SETTINGS.get(snapshot.stage, ())))
    left = {"path": snapshot.path, "sha256": snapshot.sha256, "table": snapshot.table, "version": snapshot.version}
    return registry.log_stage(
        night.config.registry,
        night.name,
        snapshot.stage,
        parameters=_flat(settings),
        metrics=_metrics(snapshot),
        tags={f"dealrec.{name}": str(value) for name, value in left.items() if value is not None} | _texts(snapshot),
        inputs=[_input(night, each) for each in READS.get(snapshot.stage, ())],
    )


def log_night(night: Night, tags: Mapping[str, str]) -> str:
    """The id of the night's MLflow run, with every setting, every stage's figures and the tables it used."""
    snapshots = night.snapshots()
    for each in snapshots:
        log_stage(night, each)
    tables = {each.table: each.stage for each in snapshots if each.table}
    return registry.log_night(
        night.config.registry,
        night.name,
        parameters=_flat(night.config.model_dump(mode="json")),
        metrics={f"{each.stage}.{name}": value for each in snapshots for name, value in _metrics(each).items()},
        tags={
            "dealrec.day": str(night.day),
            "dealrec.commit": night.manifest.commit or "none",
            "dealrec.code": night.manifest.code,
            **tags,
        },
        inputs=[_input(night, stage) for stage in tables.values()],
    )


def attach_text(night: Night, run_id: str, files: Mapping[str, str]) -> None:
    """Adds small text files to the night's run, by name."""
    with tempfile.TemporaryDirectory() as name:
        for file, text in files.items():
            (Path(name) / file).write_text(text, encoding="utf-8")
        registry.attach(night.config.registry, run_id, Path(name))


def _input(night: Night, stage: str) -> Input:
    found = night.need(stage)
    table = str(found.table)
    use = {"fine_tune": "training", "evaluation": "evaluation"}.get(stage, "input")
    return Input(table, int(found.version or 0), f"{night.lake.root}/{table}", use)


def _metrics(snapshot: Snapshot) -> dict[str, float]:
    facts = {**snapshot.facts, "seconds": snapshot.seconds, "rows": snapshot.rows}
    return {
        name.replace("@", "_at_").replace(" ", "_"): float(value)
        for name, value in facts.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _texts(snapshot: Snapshot) -> dict[str, str]:
    return {name: value for name, value in snapshot.facts.items() if isinstance(value, str)}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat
