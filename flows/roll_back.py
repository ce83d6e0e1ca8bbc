"""Puts the champion before the last promotion in charge again."""

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from dealrec_core import settings
from dealrec_core.lake import Lake, lock
from dealrec_core.lake.nights import Champion
from tasks import champions, markup
from tasks.nights import PIPELINE


@flow(name="roll-back", result_serializer="json")
def roll_back(config: str = PIPELINE, overrides: list[str] = [], reason: str = "by hand") -> Champion:  # noqa: B006 - Prefect shows it
    """Restores the champion before the present one: a new row in `promotions`, then the MLflow alias."""
    loaded = settings.load(config, overrides)
    lake = Lake(loaded.lake.root)
    with lock(lake, home=loaded.run.home):
        champion = champions.roll_back(loaded.registry, lake, who="rollback", reason=reason)
    create_markdown_artifact(
        f"Version {champion.version} of night {champion.night} is champion again: {markup.markdown(reason)}",
        key="rollback",
    )
    return champion
