"""Reads MLflow's SQLite file for a look, without MLflow, which takes seconds to import.

The functions that `tasks.registry` has by the same name return what those return. Only `follow_move` writes.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from dealrec_core.errors import RegistryError, SettingsError
from dealrec_core.lake.nights import Champion
from dealrec_core.settings.run import RegistryConfig

CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
NIGHT_TAG, CHAMPION_TAG = "dealrec.night", "dealrec.champion"
"""CHAMPION_TAG stands on the registered model: the version that dealrec last made champion. An alias that differs was moved
by hand."""
SHA256_TAG = "dealrec.sha256"
"""Stands on a version: the hash of the recommender's bundle."""
ADVICE = "`dealrec register-champion` registers it again, and `dealrec rollback` puts the champion before it in charge"
PREFIX = "sqlite:///"
PLACES = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
"""Columns in which MLflow keeps whole addresses of files."""


def can_read(config: RegistryConfig) -> bool:
    """Whether the registry is a plain SQLite file of this machine."""
    return config.tracking_uri.startswith(PREFIX) and "?" not in config.tracking_uri


def require_experiment(config: RegistryConfig) -> None:
    """Lets an experiment through that is there, or is not there yet.

    Raises:
        SettingsError: it was deleted.
    """
    query = "select experiment_id from experiments where name = ? and lifecycle_stage = 'deleted'"
    if deleted := _rows(config, query, config.experiment):
        raise deleted_experiment(config, str(deleted[0][0]))


def deleted_experiment(config: RegistryConfig, number: str) -> SettingsError:
    """The error for an experiment that was deleted."""
    return SettingsError(
        f"the experiment '{config.experiment}' was deleted in MLflow at {config.tracking_uri}; restore it (`mlflow experiments "
        f"restore -x {number}`) or set registry.experiment to another name"
    )


def aliases(config: RegistryConfig) -> tuple[dict[str, str], str | None]:
    """The version that each alias of the registered model points at, and the champion that was last set from here."""
    present = _rows(config, "select alias, version from registered_model_aliases where name = ?", config.model)
    query = "select value from registered_model_tags where name = ? and key = ?"
    tags = _rows(config, query, config.model, CHAMPION_TAG)
    return {alias: str(version) for alias, version in present}, str(tags[0][0]) if tags else None


def version_of(config: RegistryConfig, model: Champion, sha256: str | None) -> str | None:
    """The version that holds a model now: its number where its night and hash made that, else another that they made, else None."""
    query = """select night.version from model_version_tags night
        join model_versions version on version.name = night.name and version.version = night.version
        left join model_version_tags hash on hash.name = night.name and hash.version = night.version and hash.key = ?
        where night.name = ? and night.key = ? and night.value = ? and version.current_stage != 'Deleted_Internal'
        and (hash.value is null or ? is null or hash.value = ?) order by night.version desc"""
    rows = _rows(config, query, SHA256_TAG, config.model, NIGHT_TAG, model.night, sha256, sha256)
    versions = [str(version) for (version,) in rows]
    return model.version if model.version in versions else next(iter(versions), None)


def require_artifacts(config: RegistryConfig) -> None:
    """Lets a registry through whose artifacts are where MLflow looks for them, or whose place this machine cannot know.

    Raises:
        SettingsError: the project's folder was moved, and MLflow's file still names the old one.
    """
    if (before := _moved_from(config)) is not None:
        raise SettingsError(
            f"MLflow's file {config.tracking_uri} names the folder {before} for artifacts, but this folder is gone and they are in "
            f"{config.artifacts}; run `dealrec doctor --repair`, which tells MLflow the new folder"
        )


def follow_move(config: RegistryConfig) -> None:
    """Tells MLflow's file the folder of the artifacts, where the one that it names is gone."""
    if (before := _moved_from(config)) is None:
        return
    old, new = before.as_uri(), Path(str(config.artifacts)).resolve().as_uri()
    try:
        with closing(sqlite3.connect(_file(config))) as store, store:
            for table, column in PLACES.items():
                begins = f"substr({column} || '/', 1, ?) = ?"
                change = f"update {table} set {column} = ? || substr({column}, ?) where {begins}"  # noqa: S608 - names of PLACES alone
                store.execute(change, (new, len(old) + 1, len(old) + 1, f"{old}/"))
    except sqlite3.Error as error:
        raise _unusable(config, error) from error


def _moved_from(config: RegistryConfig) -> Path | None:
    """The folder of artifacts that MLflow's file names, if only the one of the settings is there."""
    if not can_read(config) or not config.artifacts or not Path(config.artifacts).is_dir():
        return None
    named = _rows(config, "select artifact_location from experiments where name = ?", config.experiment)
    if not named or not str(named[0][0]).startswith("file://"):
        return None
    folder = Path(url2pathname(urlsplit(str(named[0][0])).path))
    return None if folder.exists() else folder


def _file(config: RegistryConfig) -> Path:
    return Path(config.tracking_uri.removeprefix(PREFIX))


def _rows(config: RegistryConfig, query: str, *values: str | None) -> list[tuple[str, ...]]:
    file = _file(config)
    if not file.exists():
        return []
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as store:
            return store.execute(query, values).fetchall()
    except sqlite3.Error as error:
        raise _unusable(config, error) from error


def _unusable(config: RegistryConfig, error: sqlite3.Error) -> RegistryError:
    return RegistryError(
        f"MLflow's file {_file(config)} cannot be used: {error}; is it the file of another program, or in use?"
    )
