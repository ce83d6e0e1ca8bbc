"""MLflow: a run per night with one below it per stage, registered models, aliases. The only module that imports mlflow.

The `promotions` table of the lake is the truth; the aliases are copies of it that every night heals.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array, DataType
from pydantic import BaseModel, ConfigDict

from dealrec_core.errors import RegistryError
from dealrec_core.lake.nights import Champion
from dealrec_core.settings.run import RegistryConfig
from tasks.registry_file import CHAMPION, CHAMPION_TAG, NIGHT_TAG, SHA256_TAG, deleted_experiment

ROOT = Path(__file__).resolve().parent.parent
STAGE_TAG, CELL_TAG = "dealrec.stage", "dealrec.cell"

VERDICT = "verdict"
HEADLINES = ("recall", "champion_recall", "surrogate_recall", "total_minutes")
"""Tag (beside that of the champion) and metrics of a night's run that stand as columns in the list of nights."""

WEBHOOK = "dealrec-champion"
ABOUT = (
    "Each night registers a version. Its tags say what it was made from, and its description is the gate's verdict. The version with "
    "the alias `champion` is in charge: move this alias to put another version in charge, and the next night starts from it. "
    "`previous` is the version that `dealrec rollback` restores, and `candidate` is the newest. The button 'Promote model' copies a "
    "version to another registered model: it does not move the alias `champion`."
)
"""Text that a person reads above the versions of a registered model."""

SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(Array(DataType.string), name="history")]),
    outputs=Schema([ColSpec(Array(DataType.string), name="item_ids")]),
    params=ParamSchema([ParamSpec("k", DataType.long, 10)]),
)

SERVED_WITH = (
    "mlflow", "torch", "transformers", "peft", "polars", "numpy", "pandas", "pydantic", "safetensors", "scipy", "scikit-learn",
)  # fmt: skip
"""Packages that a served model imports, at the versions it was made with; dealrec_core itself travels as code."""


@contextmanager
def _mlflow(config: RegistryConfig) -> Iterator[MlflowClient]:
    """A client of the configured server; every MLflow fault leaves as one RegistryError line."""
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if config.tracking_uri.startswith("sqlite:///"):
        Path(config.tracking_uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    try:
        mlflow.set_tracking_uri(config.tracking_uri)
        yield MlflowClient(tracking_uri=config.tracking_uri)
    except MlflowException as error:
        line = str(error).splitlines()[0]
        if "Max retries exceeded" in line:
            advice = "start it (`make up`) and run the command again: finished stages are kept"
            raise RegistryError(f"MLflow at {config.tracking_uri} does not answer; {advice}") from error
        advice = "are MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD set?"
        raise RegistryError(f"MLflow at {config.tracking_uri}: {line}; {advice}") from error


@dataclass(frozen=True)
class Content:
    """The content of a run: settings, figures, texts and the tables that were read."""

    parameters: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str] = field(default_factory=dict)
    inputs: Sequence[DatasetInput] = ()


def table_input(root: str, table: str, version: int, *, use: str) -> DatasetInput:
    """A table of the lake at `root`, at the version that a run read."""
    source = json.dumps({"uri": f"{root}/{table}", "delta_table_version": version})
    dataset = Dataset(table, f"version {version}", source_type="delta_table", source=source)
    return DatasetInput(dataset=dataset, tags=[InputTag("mlflow.data.context", use)])


def log_night(config: RegistryConfig, night: str, content: Content) -> str:
    """The id of the night's MLflow run, made once and completed with this content; `attach_text` ends it."""
    with _mlflow(config) as client:
        run = _run(client, config, night, {NIGHT_TAG: night})
        _complete(client, run, content)
        return str(run.info.run_id)


def log_stage(config: RegistryConfig, night: str, stage: str, content: Content) -> str:
    """The id of the run of one finished stage, below the night's; made only once."""
    with _mlflow(config) as client:
        parent = _run(client, config, night, {NIGHT_TAG: night}).info.run_id
        run = _run(client, config, stage, {"mlflow.parentRunId": parent, STAGE_TAG: stage})
        return _finished(client, run, content)


def log_cell(config: RegistryConfig, cell: str, content: Content) -> str:
    """The id of the run of a study's finished cell, made once."""
    with _mlflow(config) as client:
        return _finished(client, _run(client, config, cell, {CELL_TAG: cell}), content)


def attach_text(config: RegistryConfig, run_id: str, files: Mapping[str, str], *, finish: bool = False) -> None:
    """Adds small text files to a run, by name; `finish` then marks the run as finished."""
    with _mlflow(config) as client:
        for name, text in files.items():
            client.log_text(run_id, text, name)
        if finish:
            client.set_terminated(run_id)


def tag_run(config: RegistryConfig, run_id: str, tags: Mapping[str, str]) -> None:
    """Sets tags of a run."""
    with _mlflow(config) as client:
        client.log_batch(run_id, tags=[RunTag(name, text) for name, text in tags.items()])


def page_of(config: RegistryConfig, run_id: str) -> str | None:
    """The address of a run in MLflow's pages, None where the registry is a file without a server."""
    if not config.tracking_uri.startswith("http"):
        return None
    with _mlflow(config) as client:
        return f"{config.tracking_uri}/#/experiments/{_experiment_id(client, config)}/runs/{run_id}"


def list_nights(config: RegistryConfig) -> str | None:
    """The address of the nights in MLflow's pages, with what decides as columns; None where the registry is a file without a server."""
    if not config.tracking_uri.startswith("http"):
        return None
    view = {
        "searchFilter": f"tags.`{NIGHT_TAG}` LIKE '%'",
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "selectedColumns": [
            *(f"tags.`{name}`" for name in (VERDICT, CHAMPION)),
            *(f"metrics.`{name}`" for name in HEADLINES),
        ],
    }
    with _mlflow(config) as client:
        experiment_id = _experiment_id(client, config)
        client.set_experiment_tag(experiment_id, "mlflow.sharedViewState.nights", json.dumps(view))
    return f"{config.tracking_uri}/#/experiments/{experiment_id}/runs?viewStateShareKey=nights"


def register(
    config: RegistryConfig,
    model: str,
    night: str,
    *,
    run_id: str,
    bundle: Path,
    loader: str,
    example: list[str],
    tags: Mapping[str, str],
    description: str,
    check: Callable[[Any], None],
) -> str:
    """Registers a folder as a new version of `model`, once per night; returns the version.

    loader: module whose `_load_pyfunc` reads the folder, so that nothing is pickled.
    check: gets the model as MLflow loads it back; what it raises keeps the model from being registered.
    """
    with _mlflow(config) as client:
        registered = _versions(client, model, night, tags.get(SHA256_TAG))
        if registered:
            return registered[0]
        mlflow.set_experiment(experiment_id=client.get_run(run_id).info.experiment_id)
        with mlflow.start_run(run_id=run_id):
            logged = mlflow.pyfunc.log_model(
                name=model,
                loader_module=loader,
                data_path=str(bundle),
                code_paths=[str(ROOT / "dealrec_core")],
                signature=SIGNATURE,
                input_example=(pd.DataFrame({"history": [example]}), {"k": 10}),
                pip_requirements=[f"{name}=={installed(name).split('+')[0]}" for name in SERVED_WITH],
            )
        check(mlflow.pyfunc.load_model(logged.model_uri))
        if not client.search_registered_models(f"name = '{model}'"):
            client.create_registered_model(model, description=ABOUT)
        named = {"run_id": run_id, "model_id": logged.model_id, "description": description}
        version = client.create_model_version(model, logged.model_uri, tags={NIGHT_TAG: night, **tags}, **named)
        return str(version.version)


def _versions(client: MlflowClient, model: str, night: str, sha256: str | None) -> list[str]:
    """The versions that a night made, the newest first; another lake's night may have the same name, but not the same hash."""
    versions = client.search_model_versions(f"name = '{model}' and tags.`{NIGHT_TAG}` = '{night}'")
    own = [version for version in versions if sha256 is None or version.tags.get(SHA256_TAG) in (None, sha256)]
    return [str(version.version) for version in own]


def version_of(config: RegistryConfig, model: Champion, sha256: str | None) -> str | None:
    """The version that holds a model now: its number where its night and hash made that, else another that they made, else None."""
    with _mlflow(config) as client:
        versions = _versions(client, config.model, model.night, sha256)
    return model.version if model.version in versions else next(iter(versions), None)


def require_experiment(config: RegistryConfig) -> None:
    """Makes sure that runs can be stored: the experiment is there, or can be made.

    Raises:
        SettingsError: it was deleted.
    """
    with _mlflow(config) as client:
        _experiment_id(client, config)


def aliases(config: RegistryConfig) -> tuple[dict[str, str], str | None]:
    """The version that each alias of the registered model points at, and the champion that was last set from here."""
    with _mlflow(config) as client:
        if not client.search_registered_models(f"name = '{config.model}'"):
            return {}, None
        registered = client.get_registered_model(config.model)
        return {alias: str(version) for alias, version in registered.aliases.items()}, registered.tags.get(CHAMPION_TAG)


def set_by_hand(config: RegistryConfig) -> str | None:
    """The version that someone made champion in MLflow: the alias differs from what was last set from here.

    An alias that is gone was not set by anyone: None; healing brings it back.
    """
    present, ours = aliases(config)
    return None if present.get(CHAMPION) == ours else present.get(CHAMPION)


def heal_aliases(config: RegistryConfig, *, versions: Mapping[str, str | None]) -> list[str]:
    """Points each alias at its version where it does not already; returns what was changed, in words.

    Raises:
        RegistryError: a version is no longer there.
    """
    changed: list[str] = []
    present, ours = aliases(config)
    with _mlflow(config) as client:
        for alias, version in versions.items():
            if version is not None and present.get(alias) != version:
                client.set_registered_model_alias(config.model, alias, version)
                changed.append(f"{alias}: {present.get(alias, 'none')} -> {version}")
        champion = versions.get(CHAMPION)
        if champion is not None and ours != champion:
            client.set_registered_model_tag(config.model, CHAMPION_TAG, champion)
    return changed


def registered_nights(config: RegistryConfig) -> set[str]:
    """The nights of which the registry still has a version."""
    with _mlflow(config) as client:
        versions = client.search_model_versions(f"name = '{config.model}'", max_results=10_000)
        return {str(version.tags[NIGHT_TAG]) for version in versions if NIGHT_TAG in version.tags}


def night_of(config: RegistryConfig, version: str) -> str:
    """The night that made a version.

    Raises:
        RegistryError: the version was not made by a night.
    """
    with _mlflow(config) as client:
        night = client.get_model_version(config.model, version).tags.get(NIGHT_TAG)
    if night is None:
        message = f"version {version} of '{config.model}' has no tag {NIGHT_TAG}: no night of this lake made it"
        raise RegistryError(message)
    return str(night)


def listen(config: RegistryConfig, *, address: str, secret: str) -> None:
    """Makes MLflow post to an address, signed, whenever an alias of a registered model is set."""
    with _mlflow(config) as client:
        for webhook in client.list_webhooks():
            if webhook.name == WEBHOOK:
                client.delete_webhook(webhook.webhook_id)
        client.create_webhook(name=WEBHOOK, url=address, events=["model_version_alias.created"], secret=secret)


class Retired(BaseModel):
    """Counts of deleted versions and runs, and of old nights of which nothing was deleted, because a version has an alias."""

    model_config = ConfigDict(frozen=True)

    versions: int
    runs: int
    kept: int


def retire(config: RegistryConfig, *, before: datetime) -> Retired:
    """Deletes runs from before a moment and their versions; a run of which a version has an alias is not deleted.

    `mlflow gc` then frees their artifacts.
    """
    limit = int(before.timestamp() * 1000)
    with _mlflow(config) as client:
        versions = [
            client.get_model_version(model, version.version)  # with its aliases, which a search leaves out
            for model in (config.model, config.surrogate)
            for version in client.search_model_versions(f"name = '{model}'")
        ]
        old = [version for version in versions if version.creation_timestamp < limit]
        aliased = {version.run_id for version in old if version.aliases}
        deleted = [version for version in old if version.run_id not in aliased]
        for version in deleted:
            client.delete_model_version(version.name, version.version)
        experiments, started = [_experiment_id(client, config)], f"attributes.start_time < {limit}"
        old_runs = client.search_runs(experiments, started, max_results=10_000)
        parents = {run.info.run_id: run.data.tags.get("mlflow.parentRunId", run.info.run_id) for run in old_runs}
        deleted_runs = [run for run, parent in parents.items() if parent not in aliased]
        for run in deleted_runs:
            client.delete_run(run)
    return Retired(versions=len(deleted), runs=len(deleted_runs), kept=len(aliased))


def tag_version(config: RegistryConfig, version: str, name: str, text: str) -> None:
    """Adds a tag to a registered version, for instance the gate's verdict."""
    with _mlflow(config) as client:
        client.set_model_version_tag(config.model, version, name, text[:5000])


def _run(client: MlflowClient, config: RegistryConfig, name: str, key: Mapping[str, str]) -> Run:
    """The run whose tags are these, made when there is none."""
    experiment_id = _experiment_id(client, config)
    condition = " and ".join(f"tags.`{tag}` = '{value}'" for tag, value in key.items())
    runs = client.search_runs([experiment_id], condition, max_results=1)
    return runs[0] if runs else client.create_run(experiment_id, run_name=name, tags=dict(key))


def _finished(client: MlflowClient, run: Run, content: Content) -> str:
    if run.info.status != "FINISHED":
        _complete(client, run, content)
        client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def _experiment_id(client: MlflowClient, config: RegistryConfig) -> str:
    experiment = client.get_experiment_by_name(config.experiment)
    if experiment is not None and experiment.lifecycle_stage == "deleted":
        raise deleted_experiment(config, str(experiment.experiment_id))
    if experiment is not None:
        return str(experiment.experiment_id)
    local = config.artifacts and "://" not in config.artifacts
    where = Path(str(config.artifacts)).resolve().as_uri() if local else config.artifacts
    return str(client.create_experiment(config.experiment, artifact_location=where))


def _complete(client: MlflowClient, run: Run, content: Content) -> None:
    """Adds what the run does not have yet: a stage or a night that was killed in between is completed by the next start."""
    now, logged = int(time.time() * 1000), run.data
    metrics = [Metric(key, float(value), now, 0) for key, value in content.metrics.items() if key not in logged.metrics]
    parameters = [
        Param(key, str(value)[:6000]) for key, value in content.parameters.items() if key not in logged.params
    ]
    tags = [RunTag(key, text[:5000]) for key, text in content.tags.items()]
    client.log_batch(run.info.run_id, metrics=metrics, params=parameters, tags=tags)
    names = {entry.dataset.name for entry in run.inputs.dataset_inputs} if run.inputs else set()
    client.log_inputs(run.info.run_id, [table for table in content.inputs if table.dataset.name not in names])
