"""MLflow: a run per night with one below it per stage, registered models, aliases. The only module that imports mlflow.

The `promotions` table of the lake is the truth; the aliases are copies of it that every night heals.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array, DataType
from pydantic import BaseModel, ConfigDict

from dealrec_core.errors import RegistryError
from dealrec_core.settings.run import RegistryConfig

ROOT = Path(__file__).resolve().parent.parent
CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
NIGHT_TAG, STAGE_TAG, CELL_TAG, CHAMPION_TAG = "dealrec.night", "dealrec.stage", "dealrec.cell", "dealrec.champion"
"""The last one is of the registered model: the champion that was last set from here, not by hand in MLflow."""

WEBHOOK = "dealrec-champion"
ABOUT = (
    "A version a night, with what it was made from as tags and the gate's verdict as description. `champion` is in charge: move that "
    "alias to put another version there (the next night starts from it); `previous` is what `dealrec rollback` restores; `candidate` is "
    "the newest."
)
"""What a person reads above the versions of a registered model."""

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


@dataclass(frozen=True)
class Input:
    """A lake table at the version that a run read."""

    table: str
    version: int
    uri: str
    use: str = "input"


def log_night(
    config: RegistryConfig,
    night: str,
    *,
    parameters: Mapping[str, Any],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    inputs: Sequence[Input],
) -> str:
    """The id of the night's MLflow run, made once and completed with these values."""
    with _mlflow(config) as client:
        run_id = _night_run(client, config, night)
        _complete(client, client.get_run(run_id), parameters, metrics, tags, inputs)
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


def log_stage(
    config: RegistryConfig,
    night: str,
    stage: str,
    *,
    parameters: Mapping[str, Any],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    inputs: Sequence[Input],
) -> str:
    """The id of the run of one finished stage, below the night's; made once however often it is asked for."""
    with _mlflow(config) as client:
        parent = _night_run(client, config, night)
        experiment_id = _experiment_id(client, config)
        mine = {"mlflow.parentRunId": parent, STAGE_TAG: stage}
        found = client.search_runs(
            [experiment_id], " and ".join(f"tags.`{name}` = '{value}'" for name, value in mine.items()), max_results=1
        )
        run = found[0] if found else client.create_run(experiment_id, run_name=stage, tags=mine)
        if run.info.status != "FINISHED":
            _complete(client, run, parameters, metrics, tags, inputs)
            client.set_terminated(run.info.run_id)
        return str(run.info.run_id)


def attach(config: RegistryConfig, run_id: str, files: Path) -> None:
    """Adds all files below a folder to a run, as artifacts."""
    with _mlflow(config) as client:
        client.log_artifacts(run_id, str(files))


def finish(config: RegistryConfig, run_id: str) -> None:
    """Marks a run as finished."""
    with _mlflow(config) as client:
        client.set_terminated(run_id)


def page_of(config: RegistryConfig, run_id: str) -> str | None:
    """The address of a run in MLflow's pages, None where the registry is a file without a server."""
    if not config.tracking_uri.startswith("http"):
        return None
    with _mlflow(config) as client:
        return f"{config.tracking_uri}/#/experiments/{_experiment_id(client, config)}/runs/{run_id}"


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
        found = _version_of(client, model, night)
        if found is not None:
            return str(found.version)
        mlflow.set_experiment(experiment_id=client.get_run(run_id).info.experiment_id)
        with mlflow.start_run(run_id=run_id):
            logged = mlflow.pyfunc.log_model(
                name=model,
                loader_module=loader,
                data_path=str(bundle),
                code_paths=[str(ROOT / "dealrec_core")],
                signature=SIGNATURE,
                input_example=(pd.DataFrame({"history": [example]}), {"k": 10}),
                pip_requirements=_requirements(),
            )
        check(mlflow.pyfunc.load_model(logged.model_uri))
        if not client.search_registered_models(f"name = '{model}'"):
            client.create_registered_model(model, description=ABOUT)
        version = client.create_model_version(
            model,
            logged.model_uri,
            run_id=run_id,
            tags={NIGHT_TAG: night, **tags},
            description=description,
            model_id=logged.model_id,
        )
        return str(version.version)


def aliases(config: RegistryConfig) -> dict[str, str]:
    """The version that each alias of the registered model points at."""
    return _looked_up(config)[0]


def set_by_hand(config: RegistryConfig) -> str | None:
    """The version that someone made champion in MLflow: the alias differs from what was last set from here.

    An alias that is gone was not set by anyone: None; healing brings it back.
    """
    present, ours = _looked_up(config)
    return None if present.get(CHAMPION) == ours else present.get(CHAMPION)


def heal_aliases(config: RegistryConfig, *, wanted: Mapping[str, str | None]) -> list[str]:
    """Points each alias at its version where it does not already; returns what was changed, in words.

    Raises:
        RegistryError: a version is no longer there.
    """
    changed: list[str] = []
    present, ours = _looked_up(config)
    with _mlflow(config) as client:
        for alias, version in wanted.items():
            if version is not None and present.get(alias) != version:
                client.set_registered_model_alias(config.model, alias, version)
                changed.append(f"{alias}: {present.get(alias, 'none')} -> {version}")
        champion = wanted.get(CHAMPION)
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
        raise RegistryError(
            f"version {version} of '{config.model}' has no tag {NIGHT_TAG}: no night of this lake made it"
        )
    return str(night)


def listen(config: RegistryConfig, *, address: str, secret: str) -> None:
    """Makes MLflow post to an address, signed, whenever an alias of a registered model is set."""
    with _mlflow(config) as client:
        for known in client.list_webhooks():
            if known.name == WEBHOOK:
                client.delete_webhook(known.webhook_id)
        client.create_webhook(name=WEBHOOK, url=address, events=["model_version_alias.created"], secret=secret)


class Retired(BaseModel):
    """What was deleted, and how many old nights are kept for the alias of a version."""

    model_config = ConfigDict(frozen=True)

    versions: int = 0
    runs: int = 0
    kept: int = 0


def retire(config: RegistryConfig, *, before: datetime) -> Retired:
    """Deletes runs from before a moment and their versions; a run of which a version has an alias is kept whole.

    `mlflow gc` then frees their artifacts.
    """
    limit = int(before.timestamp() * 1000)
    with _mlflow(config) as client:
        found = [each for name in (config.model, config.surrogate) for each in _versions(client, name)]
        kept = {each.run_id for each in found if each.aliases and each.creation_timestamp < limit}
        old = [each for each in found if each.run_id not in kept and each.creation_timestamp < limit]
        for each in old:
            client.delete_model_version(each.name, each.version)
        runs = 0
        experiment_id = _experiment_id(client, config)
        for run in client.search_runs([experiment_id], f"attributes.start_time < {limit}", max_results=10_000):
            parent = run.data.tags.get("mlflow.parentRunId", run.info.run_id)
            if parent not in kept:
                client.delete_run(run.info.run_id)
                runs += 1
    return Retired(versions=len(old), runs=runs, kept=len(kept))


def _versions(client: MlflowClient, model: str) -> list[ModelVersion]:
    """All versions of a registered model, with their aliases, which a search leaves out."""
    found = client.search_model_versions(f"name = '{model}'")
    return [client.get_model_version(model, each.version) for each in found]


def _looked_up(config: RegistryConfig) -> tuple[dict[str, str], str | None]:
    """The aliases of the registered model, and the champion that was last set from here."""
    with _mlflow(config) as client:
        if not client.search_registered_models(f"name = '{config.model}'"):
            return {}, None
        found = client.get_registered_model(config.model)
        return {alias: str(version) for alias, version in found.aliases.items()}, found.tags.get(CHAMPION_TAG)


def tag_version(config: RegistryConfig, version: str, tags: Mapping[str, str]) -> None:
    """Adds tags to a registered version, for instance the gate's verdict."""
    with _mlflow(config) as client:
        for name, text in tags.items():
            client.set_model_version_tag(config.model, version, name, text[:5000])


def _night_run(client: MlflowClient, config: RegistryConfig, night: str) -> str:
    return str(_run(client, config, night, tag=NIGHT_TAG).info.run_id)


def _run(client: MlflowClient, config: RegistryConfig, name: str, *, tag: str) -> Run:
    experiment_id = _experiment_id(client, config)
    found = client.search_runs([experiment_id], f"tags.`{tag}` = '{name}'", max_results=1)
    return found[0] if found else client.create_run(experiment_id, run_name=name, tags={tag: name})


def _experiment_id(client: MlflowClient, config: RegistryConfig) -> str:
    found = client.get_experiment_by_name(config.experiment)
    if found is not None:
        return str(found.experiment_id)
    local = config.artifacts and "://" not in config.artifacts
    where = Path(str(config.artifacts)).resolve().as_uri() if local else config.artifacts
    return str(client.create_experiment(config.experiment, artifact_location=where))


def _complete(
    client: MlflowClient,
    run: Run,
    parameters: Mapping[str, Any],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    inputs: Sequence[Input],
) -> None:
    """Adds what the run does not have yet: a stage or a night that was killed in between is completed by the next start."""
    now = int(time.time() * 1000)
    client.log_batch(
        run.info.run_id,
        metrics=[Metric(name, float(value), now, 0) for name, value in metrics.items() if name not in run.data.metrics],
        params=[Param(name, str(value)[:6000]) for name, value in parameters.items() if name not in run.data.params],
        tags=[RunTag(name, text[:5000]) for name, text in tags.items()],
    )
    known = {found.dataset.name for found in run.inputs.dataset_inputs} if run.inputs else set()
    client.log_inputs(run.info.run_id, [_dataset(each) for each in inputs if each.table not in known])


def _dataset(found: Input) -> DatasetInput:
    source = {"uri": found.uri, "delta_table_version": found.version}
    dataset = Dataset(
        name=found.table,
        digest=f"version {found.version}",
        source_type="delta_table",
        source=json.dumps(source),
        schema=None,
        profile=None,
    )
    return DatasetInput(dataset=dataset, tags=[InputTag("mlflow.data.context", found.use)])


def _version_of(client: MlflowClient, model: str, night: str) -> ModelVersion | None:
    found = client.search_model_versions(f"name = '{model}' and tags.`{NIGHT_TAG}` = '{night}'")
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
        "scipy",
    ]
    return [f"{name}=={installed(name).split('+')[0]}" for name in needed]
