"""Looks after the lake: joins small files, removes files that nothing needs, and reports on every table."""

from prefect import flow

from dealrec_core import settings
from tasks.nights import PIPELINE
from tasks.upkeep import UpkeepReport, look_after


@flow(name="upkeep", result_serializer="json")
def upkeep(config: str = PIPELINE, overrides: list[str] = []) -> UpkeepReport:  # noqa: B006 - Prefect shows it
    """Joins small files at any time; removes files and writes checkpoints if no night runs. No version that a night names is lost."""
    return look_after(settings.load(config, overrides))
