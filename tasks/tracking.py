"""Tells MLflow about a night: one run for the night and one below it for each stage, with the table versions that it read."""

from collections.abc import Mapping
from typing import Any

from dealrec_core.lake.nights import Night, Snapshot
from tasks import registry
from tasks.registry import Content, Input

READS = {
    "samples": ("ingest",),
    "surrogate": ("samples",),
    "influence": ("samples",),
    "effort": ("samples",),
    "coreset": ("samples", "influence", "effort"),
    "fine_tune": ("coreset", "samples"),
    "evaluation": ("ingest",),
    "proxy": ("coreset", "samples"),
    "promotion": ("evaluation",),
}
"""The stages whose tables a stage reads, where they have run."""
SETTINGS = {
    "ingest": ("sources", "lake"),
    "samples": ("samples",),
    "surrogate": ("surrogate",),
    "base_model": ("language_model", "tiger", "semantic_ids"),
    "influence": ("influence",),
    "effort": ("effort",),
    "coreset": ("coreset",),
    "fine_tune": ("fine_tune", "recommender"),
    "evaluation": ("evaluation",),
    "proxy": ("evaluation",),
    "promotion": ("gate",),
}
"""The sections of the settings that a stage follows."""


def log_stage(night: Night, snapshot: Snapshot) -> str:
    """The id of the MLflow run of a finished stage, below the night's; made once."""
    settings = night.config.model_dump(mode="json", include=set(SETTINGS.get(snapshot.stage, ())))
    places = {"path": snapshot.path, "sha256": snapshot.sha256, "table": snapshot.table, "version": snapshot.version}
    texts = {name: value for name, value in snapshot.facts.items() if isinstance(value, str)}
    content = Content(
        parameters=_flat(settings),
        metrics=_metrics(snapshot),
        tags={f"dealrec.{name}": str(value) for name, value in places.items() if value is not None} | texts,
        inputs=[_input(night, stage) for stage in READS.get(snapshot.stage, ()) if night.find(stage)],
    )
    return registry.log_stage(night.config.registry, night.name, snapshot.stage, content)


def log_night(night: Night, tags: Mapping[str, str]) -> str:
    """The id of the night's MLflow run, with every setting, every stage's figures and the tables it used."""
    snapshots = night.snapshots()
    for snapshot in snapshots:
        log_stage(night, snapshot)
    tables = {snapshot.table: snapshot.stage for snapshot in snapshots if snapshot.table}
    manifest = {
        "dealrec.day": str(night.day),
        "dealrec.commit": night.manifest.commit or "none",
        "dealrec.code": night.manifest.code,
    }
    content = Content(
        parameters=_flat(night.config.model_dump(mode="json")),
        metrics={f"{record.stage}.{name}": value for record in snapshots for name, value in _metrics(record).items()},
        tags={**manifest, **tags},
        inputs=[_input(night, stage) for stage in tables.values()],
    )
    return registry.log_night(night.config.registry, night.name, content)


def _input(night: Night, stage: str) -> Input:
    record = night.need(stage)
    table = str(record.table)
    use = {"fine_tune": "training", "evaluation": "evaluation"}.get(stage, "input")
    return Input(table, int(record.version or 0), f"{night.lake.root}/{table}", use)


def _metrics(snapshot: Snapshot) -> dict[str, float]:
    facts = {**snapshot.facts, "seconds": snapshot.seconds, "rows": snapshot.rows}
    return {
        name.replace("@", "_at_").replace(" ", "_"): float(value)
        for name, value in facts.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat
