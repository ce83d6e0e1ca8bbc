"""MLflow: a run per night, a registered model, and its aliases. The only module that imports mlflow.

The `promotions` table of the lake is the truth; the aliases are copies of it that every night heals.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array, DataType

from dealrec_core.config import RegistryConfig
from dealrec_core.errors import RegistryError

ROOT = Path(__file__).resolve().parent.parent
CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
NIGHT_TAG, CELL_TAG = "dealrec.night", "dealrec.cell"

SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(Array(DataType.string), name="history")]),
    outputs=Schema([ColSpec(Array(DataType.string), name="item_ids")]),
    params=ParamSchema([ParamSpec("k", DataType.long, 10)]),
)


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
        raise RegistryError(
            f"MLflow at {config.tracking_uri}: {str(error).splitlines()[0]}; is the server up (`make up`)?"
        ) from error


def log_night(
    config: RegistryConfig,
    night: str,
    *,
    parameters: Mapping[str, Any],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    files: Path,
) -> str:
    """The id of the night's MLflow run, made once and completed with these values and all files below `files`."""
    with _mlflow(config) as client:
        run = _run(client, config, night)
        run_id = run.info.run_id
        known = run.data.params
        for name, value in parameters.items():
            if name not in known:
                client.log_param(run_id, name, str(value)[:6000])
        for name, number in metrics.items():
            client.log_metric(run_id, name, float(number))
        for name, text in tags.items():
            client.set_tag(run_id, name, text)
        client.log_artifacts(run_id, str(files))
        client.set_terminated(run_id)
        return run_id


def log_cell(config: RegistryConfig, cell: str, *, parameters: Mapping[str, Any], metrics: Mapping[str, float]) -> str:
    """The id of the MLflow run of a study's cell, made once and completed with these values."""
    with _mlflow(config) as client:
        run = _run(client, config, cell, tag=CELL_TAG)
        for name, value in parameters.items():
            if name not in run.data.params:
                client.log_param(run.info.run_id, name, str(value)[:6000])
        for name, number in metrics.items():
            client.log_metric(run.info.run_id, name, float(number))
        client.set_terminated(run.info.run_id)
        return str(run.info.run_id)


def register(
    config: RegistryConfig, night: str, *, run_id: str, bundle: Path, example: list[str], tags: Mapping[str, str]
) -> str:
    """Registers the bundle as a new version of the model, once per night; returns the version."""
    with _mlflow(config) as client:
        found = _version_of(client, config, night)
        if found is not None:
            return str(found.version)
        mlflow.set_experiment(experiment_id=client.get_run(run_id).info.experiment_id)
        with mlflow.start_run(run_id=run_id):
            logged = mlflow.pyfunc.log_model(
                name="recommender",
                loader_module="dealrec_core.recommenders.serving",
                data_path=str(bundle),
                code_paths=[str(ROOT / "dealrec_core")],
                signature=SIGNATURE,
                input_example=(pd.DataFrame({"history": [example]}), {"k": 10}),
                pip_requirements=_requirements(),
            )
        if not client.search_registered_models(f"name = '{config.model}'"):
            client.create_registered_model(config.model)
        version = client.create_model_version(
            config.model, logged.model_uri, run_id=run_id, tags={NIGHT_TAG: night, **tags}, model_id=logged.model_id
        )
        return str(version.version)


def load(config: RegistryConfig, version: str) -> Any:
    """The registered version as MLflow gives it to anyone: a pyfunc with predict(frame, params)."""
    with _mlflow(config):
        return mlflow.pyfunc.load_model(f"models:/{config.model}/{version}")


def aliases(config: RegistryConfig) -> dict[str, str]:
    """The version that each alias of the registered model points at."""
    with _mlflow(config) as client:
        if not client.search_registered_models(f"name = '{config.model}'"):
            return {}
        return {alias: str(version) for alias, version in client.get_registered_model(config.model).aliases.items()}


def heal_aliases(config: RegistryConfig, *, wanted: Mapping[str, str | None]) -> list[str]:
    """Points each alias at its version where it does not already; returns what was changed, in words."""
    changed: list[str] = []
    present = aliases(config)
    with _mlflow(config) as client:
        for alias, version in wanted.items():
            if version is not None and present.get(alias) != version:
                client.set_registered_model_alias(config.model, alias, version)
                changed.append(f"{alias}: {present.get(alias, 'none')} -> {version}")
    return changed


def registered_nights(config: RegistryConfig) -> set[str]:
    """The nights of which the registry still has a version."""
    with _mlflow(config) as client:
        versions = client.search_model_versions(f"name = '{config.model}'", max_results=10_000)
        return {str(version.tags[NIGHT_TAG]) for version in versions if NIGHT_TAG in version.tags}


def tag_version(config: RegistryConfig, version: str, tags: Mapping[str, str]) -> None:
    """Adds tags to a registered version, for instance the gate's verdict."""
    with _mlflow(config) as client:
        for name, text in tags.items():
            client.set_model_version_tag(config.model, version, name, text[:5000])


def _run(client: MlflowClient, config: RegistryConfig, name: str, *, tag: str = NIGHT_TAG) -> Run:
    experiment = client.get_experiment_by_name(config.experiment)
    if experiment is not None:
        found = client.search_runs([experiment.experiment_id], f"tags.`{tag}` = '{name}'", max_results=1)
        if found:
            return found[0]
        experiment_id = experiment.experiment_id
    else:
        where = (
            Path(config.artifacts).resolve().as_uri()
            if config.artifacts and "://" not in config.artifacts
            else config.artifacts
        )
        experiment_id = client.create_experiment(config.experiment, artifact_location=where)
    return client.create_run(experiment_id, run_name=name, tags={tag: name})


def _version_of(client: MlflowClient, config: RegistryConfig, night: str) -> ModelVersion | None:
    found = client.search_model_versions(f"name = '{config.model}' and tags.`{NIGHT_TAG}` = '{night}'")
    return found[0] if found else None


def _requirements() -> list[str]:
    """What a served model needs, at the versions it was made with; dealrec_core itself travels as code."""
    needed = [
        "mlflow",
        "torch",
        "transformers",
        "peft",
        "accelerate",
        "polars",
        "numpy",
        "pandas",
        "pydantic",
        "safetensors",
    ]
    return [f"{name}=={installed(name).split('+')[0]}" for name in needed]
