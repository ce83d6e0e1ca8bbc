"""Tells MLflow about a night: one run for the night and one below it for each stage, with the table versions that it read."""

from collections.abc import Mapping
from typing import Any

from dealrec_core.lake.nights import Night, Snapshot
from tasks import registry
from tasks.registry import Content, DatasetInput

INPUTS: dict[str, tuple[list[str], set[str]]] = {
    "ingest": ([], {"sources", "lake"}),
    "samples": (["ingest"], {"samples"}),
    "surrogate": (["samples"], {"surrogate"}),
    "base_model": ([], {"language_model", "tiger", "semantic_ids"}),
    "influence": (["samples"], {"influence"}),
    "effort": (["samples"], {"effort"}),
    "coreset": (["samples", "influence", "effort"], {"coreset", "fine_tune"}),
    "fine_tune": (["coreset", "samples"], {"fine_tune", "recommender"}),
    "evaluation": (["ingest"], {"evaluation"}),
    "refit": (["coreset", "samples"], {"fine_tune", "recommender"}),
    "promotion": (["evaluation"], {"gate"}),
}
"""The stages whose tables a stage reads, where they have run, and the sections of the settings that it follows."""


def log_stage(night: Night, snapshot: Snapshot) -> str:
    """The id of the MLflow run of a finished stage, below the night's; made once."""
    reads, sections = INPUTS[snapshot.stage]
    places = {"path": snapshot.path, "sha256": snapshot.sha256, "table": snapshot.table, "version": snapshot.version}
    texts = {name: value for name, value in snapshot.facts.items() if isinstance(value, str)}
    content = Content(
        parameters=_flat(night.config.model_dump(mode="json", include=sections)),
        metrics=_metrics(snapshot),
        tags={f"dealrec.{name}": str(value) for name, value in places.items() if value is not None} | texts,
        inputs=[_input(night, record) for stage in reads if (record := night.find(stage))],
    )
    return registry.log_stage(night.config.registry, night.name, snapshot.stage, content)


def log_night(night: Night, tags: Mapping[str, str]) -> str:
    """The id of the night's MLflow run, with every setting, every stage's figures and the tables it used."""
    snapshots = night.snapshots()
    for snapshot in snapshots:
        log_stage(night, snapshot)
    tables = {snapshot.table: snapshot for snapshot in snapshots if snapshot.table}
    commit, code = night.manifest.commit or "none", night.manifest.code
    content = Content(
        parameters=_flat(night.config.model_dump(mode="json")),
        metrics={
            **{f"{record.stage}.{name}": value for record in snapshots for name, value in _metrics(record).items()},
            **_headlines(night),
        },
        tags={"dealrec.day": str(night.day), "dealrec.commit": commit, "dealrec.code": code, **tags},
        inputs=[_input(night, record) for record in tables.values()],
    )
    return registry.log_night(night.config.registry, night.name, content)


def _headlines(night: Night) -> dict[str, float]:
    """Returns the figures that decide about a night, by names short enough for a column (`registry.HEADLINES`)."""
    evaluated, minutes = night.need("evaluation").facts, sum(record.seconds for record in night.snapshots()) / 60
    named = {"recall": "candidate recall", "champion_recall": "champion recall", "surrogate_recall": "surrogate recall"}
    recalls = {name: float(str(evaluated[fact])) for name, fact in named.items() if fact in evaluated}
    return {**recalls, "total_minutes": minutes}


def _input(night: Night, record: Snapshot) -> DatasetInput:
    use = "evaluation" if record.stage == "evaluation" else "input"
    return registry.table_input(night.lake.root, str(record.table), int(record.version or 0), use=use)


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
