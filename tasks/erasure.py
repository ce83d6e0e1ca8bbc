"""Erases a user. Not a flow: Prefect keeps the parameters of every run."""

from datetime import UTC, datetime

from dealrec_core.lake import Lake, erasure, lock
from dealrec_core.lake.erasure import Erasure
from dealrec_core.settings import Config


def erase_user(config: Config, user_id: str, *, now: bool) -> Erasure:
    """Removes a user from the lake while nobody else writes to it.

    Raises:
        NightBusy: a night or upkeep is running.
    """
    lake = Lake(config.lake.root)
    with lock(lake, home=config.run.home), lock(lake, home=config.run.home, name="upkeep"):
        return erasure.erase(lake, user_id, at=datetime.now(UTC), now=now)
