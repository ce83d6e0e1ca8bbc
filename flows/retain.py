"""Removes old runs and versions from MLflow; Prefect's server cleans its own database."""

from datetime import UTC, datetime, timedelta

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from dealrec_core import settings
from tasks import registry
from tasks.nights import PIPELINE
from tasks.registry import Retired


@flow(name="retain", result_serializer="json")
def retain(keep_days: int = 90, config: str = PIPELINE, overrides: list[str] = []) -> Retired:  # noqa: B006 - Prefect shows it
    """Deletes MLflow runs and versions older than `keep_days`, with their artifacts; never a version with an alias.

    The lake is kept: promotions, coresets and models there are not touched. Prefect's server removes old runs and events by
    itself (PREFECT_SERVER_SERVICES_DB_VACUUM_*, set by `make up` and the compose file).
    """
    loaded = settings.load(config, overrides)
    before = datetime.now(UTC) - timedelta(days=keep_days)
    retired = registry.retire(loaded.registry, before=before)
    create_markdown_artifact(
        f"{retired.versions} versions and {retired.runs} runs from before {before:%Y-%m-%d} were deleted; "
        f"{retired.kept} old nights are kept whole, because a version of them has an alias.",
        key="retain",
    )
    return retired
