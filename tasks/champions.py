"""Keeps MLflow's aliases in step with the table `promotions`, which decides what model is champion."""

from datetime import UTC, datetime

from prefect.logging import get_run_logger

from dealrec_core.errors import DataError, RegistryError
from dealrec_core.lake import Lake, promotions
from dealrec_core.lake.nights import Champion, Night, reopen, served_sha256
from dealrec_core.settings.run import RegistryConfig
from tasks import events, registry
from tasks.registry_file import ADVICE, CANDIDATE, CHAMPION, PREVIOUS, require_artifacts


def heal(config: RegistryConfig, lake: Lake, *, candidate: str | None = None) -> list[str]:
    """Makes MLflow's aliases say what the promotions table says; returns what was changed.

    A model is known by its night and hash, since the number of a version says nothing once the registered model was deleted or the
    server has begun anew. A champion that is gone from MLflow raises the event champion.lost, and no other becomes champion.
    """
    changed = registry.heal_aliases(config, versions={CANDIDATE: candidate}) if candidate else []
    champion, before = promotions.champion(lake), promotions.before_champion(lake)
    if champion is None:
        return changed
    try:
        version = registered(config, lake, champion)
        if version is None:
            raise RegistryError(f"'{config.model}' has no version of this night")
        previous = registered(config, lake, before) if before else None
        versions = {CHAMPION: version, PREVIOUS: previous}
        return [*changed, *registry.heal_aliases(config, versions=versions)]
    except RegistryError as error:
        message = (
            f"the champion, version {champion.version} of night {champion.night}, is not in MLflow ({error}); {ADVICE}"
        )
        get_run_logger().error(message)
        events.champion_lost(lake, version=champion.version, message=message)
        return changed


def registered(config: RegistryConfig, lake: Lake, model: Champion) -> str | None:
    """The version that holds a model in MLflow now, None where it is gone."""
    return registry.version_of(config, model, served_sha256(lake, model))


def follow_registry(config: RegistryConfig, lake: Lake) -> Champion | None:
    """Takes over a champion that someone set in MLflow; None when nobody did.

    Then it heals the aliases: a promotion or rollback that was killed may not have come to move them.
    """
    champion = _taken_over(config, lake)
    if changed := heal(config, lake):
        get_run_logger().info("aliases changed: %s", changed)
    return champion


def _taken_over(config: RegistryConfig, lake: Lake) -> Champion | None:
    """The model whose alias someone moved: a row of `promotions` with the gate's verdict on it."""
    version = registry.set_by_hand(config)
    present = promotions.champion(lake)
    if version is None:
        return None
    made_by = registry.night_of(config, version)
    if present is not None and present.night == made_by:
        return None
    night = reopen(made_by, lake)
    promoted = night.find("promotion")
    verdict = f"the gate's verdict was: {promoted.facts['reason']}" if promoted else "the gate has not decided on it"
    reason = f"alias champion set in MLflow; {verdict}"
    champion, action = model_of(night, version), promotions.SET_BY_HAND
    promotions.record(lake, night=champion, action=action, reason=reason, who="MLflow", now=datetime.now(UTC))
    registry.tag_version(config, version, "dealrec.set_by_hand", reason)
    return champion


def require_experiment(config: RegistryConfig) -> None:
    """Stops a night at its start whose results MLflow could not keep; a registry that does not answer may do so later.

    Raises:
        SettingsError: the experiment was deleted, or the project's folder was moved and MLflow does not know it.
    """
    require_artifacts(config)
    try:
        registry.require_experiment(config)
    except RegistryError as error:
        get_run_logger().warning("%s", error)


def poll_registry(config: RegistryConfig, lake: Lake) -> None:
    """Does what `follow_registry` does, at the start of a night or rollback; a registry that does not answer stops neither."""
    log = get_run_logger()
    try:
        if champion := follow_registry(config, lake):
            log.info("version %s was made champion in MLflow: this night starts from it", champion.version)
    except (RegistryError, DataError) as error:
        log.warning("the champion is read from the table `promotions` alone: %s", error)


def roll_back(config: RegistryConfig, lake: Lake, *, who: str, reason: str) -> Champion:
    """Puts the model in charge that was so before the last promotion: a new row in `promotions`, then the aliases.

    Sent again, it writes no row and moves only an alias that was not moved.
    """
    poll_registry(config, lake)
    restored, champion = promotions.previous(lake), promotions.champion(lake)
    if champion is None or champion.night != restored.night:
        action = promotions.ROLLED_BACK
        promotions.record(lake, night=restored, action=action, reason=reason, who=who, now=datetime.now(UTC))
    heal(config, lake)
    return restored


def model_of(night: Night, version: str) -> Champion:
    """The model of a night, as a row of `promotions` names it: what the stage `refit` has named to be served, else what was tuned."""
    model = night.served
    return Champion(
        night=night.name,
        bundle=str(model.path),
        version=version,
        trained_through=datetime.fromisoformat(str(model.facts["trained through"])),
    )
