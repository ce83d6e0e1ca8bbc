"""Looks after the lake: joins small files, removes what nothing needs, reports what every table holds."""

from prefect import flow

from dealrec_core import settings
from tasks.nights import PIPELINE
from tasks.upkeep import UpkeepReport, look_after


@flow(name="upkeep", result_serializer="json")
def upkeep(config: str = PIPELINE, overrides: list[str] = []) -> UpkeepReport:  # noqa: B006 - Prefect shows it
    """Compaction beside whatever runs, vacuum and checkpoints when no night does; no version that a night names is lost."""
    return look_after(settings.load(config, overrides))
