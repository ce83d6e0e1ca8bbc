"""Takes over a champion that someone set in MLflow."""

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from dealrec_core import settings
from dealrec_core.lake import Lake, lock
from dealrec_core.lake.nights import Champion
from tasks import champions
from tasks.nights import PIPELINE


@flow(name="follow-registry", result_serializer="json")
def follow_registry(config: str = PIPELINE, overrides: list[str] = []) -> Champion | None:  # noqa: B006 - Prefect shows it
    """Makes the alias `champion`, where it was set in MLflow, a row of `promotions`, with the gate's verdict on it.

    Nightly does the same when it opens, so an event that is lost is made up for.
    """
    loaded = settings.load(config, overrides)
    lake = Lake(loaded.lake.root)
    with lock(lake, home=loaded.run.home):
        champion = champions.follow_registry(loaded.registry, lake)
    if champion is not None:
        message = f"Version {champion.version} of night {champion.night} was made champion in MLflow."
        create_markdown_artifact(message, key="follow-registry")
    return champion
