"""Registers the champion in MLflow again, if the registered model was deleted or the server is new."""

from prefect import flow

from dealrec_core import settings
from dealrec_core.errors import DataError
from dealrec_core.lake import Lake, lock, promotions
from dealrec_core.lake.nights import Champion, Night, reopen
from dealrec_core.settings import Config
from tasks import champions
from tasks.nights import PIPELINE
from tasks.stages import promotion


@flow(name="register-champion", result_serializer="json")
def register_champion(config: str = PIPELINE, overrides: list[str] = []) -> Champion:  # noqa: B006 - Prefect shows it
    """Registers the bundle of the model in charge as a version, unless one is there, and points the alias `champion` at it.

    Raises:
        DataError: there is no champion.
    """
    loaded = settings.load(config, overrides)
    lake = Lake(loaded.lake.root)
    with lock(lake, home=loaded.run.home):
        champion = promotions.champion(lake)
        if champion is None:
            raise DataError(f"no model in {lake.root} is in charge yet; `dealrec nightly` makes one")
        version = champions.registered(loaded.registry, lake, champion)
        if version is None:
            version = promotion.register_again(_night(champion.night, lake, loaded))
        champions.heal(loaded.registry, lake)
    return champion.model_copy(update={"version": version})


def _night(name: str, lake: Lake, config: Config) -> Night:
    """The night as it was opened, but with the registry of now: it may have moved."""
    night = reopen(name, lake, run=config.run)
    settings_now = night.manifest.settings.model_copy(update={"registry": config.registry})
    return Night(night.manifest.model_copy(update={"settings": settings_now}), lake)
