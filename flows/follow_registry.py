"""Records a champion that a person has set in MLflow."""

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from dealrec_core import settings
from dealrec_core.lake import Lake, lock
from dealrec_core.lake.nights import Champion
from tasks import champions
from tasks.nights import PIPELINE


@flow(name="follow-registry", result_serializer="json")
def follow_registry(config: str = PIPELINE, overrides: list[str] = []) -> Champion | None:  # noqa: B006 - Prefect shows it
    """Writes a row to `promotions` if a person has set the alias `champion` in MLflow, with the gate's verdict on that version.

    Every night also does this when it opens, so a lost event does no harm.
    """
    loaded = settings.load(config, overrides)
    lake = Lake(loaded.lake.root)
    with lock(lake, home=loaded.run.home):
        champion = champions.follow_registry(loaded.registry, lake)
    if champion is not None:
        message = f"Version {champion.version} of night {champion.night} was made champion in MLflow."
        create_markdown_artifact(message, key="follow-registry")
    return champion
