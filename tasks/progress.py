"""Shows how far a long stage is: a progress artifact on its run in Prefect, and a log line with counts."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.exceptions import PrefectException
from prefect.logging import get_run_logger

from dealrec_core.language.progress import Progress

EVERY_S = 5.0
"""A shorter stage shows nothing and pays nothing; a longer one moves its bar so often at most."""


@contextmanager
def shown(stage: str, unit: str) -> Iterator[Progress]:
    """The function that a computation calls; a server that does not answer stops no stage."""
    log = get_run_logger()
    last = time.monotonic()
    bar: UUID | None = None

    def tell(done: int, total: int) -> None:
        nonlocal last, bar
        if time.monotonic() - last < EVERY_S:
            return
        log.info("%s: %s of %s %s", stage, f"{done:,}", f"{total:,}", unit)
        bar = _move(bar, stage, 100 * done / max(total, 1), f"{stage}: {unit}")
        last = time.monotonic()

    yield tell
    if bar is not None:
        _move(bar, stage, 100.0, f"{stage}: {unit}")


def _move(bar: UUID | None, stage: str, percent: float, description: str) -> UUID | None:
    try:
        if bar is None:
            return create_progress_artifact(percent, key=f"{stage.replace('_', '-')}-progress", description=description)  # type: ignore[return-value]
        update_progress_artifact(bar, progress=percent)
    except (httpx.HTTPError, PrefectException) as error:
        get_run_logger().debug("no progress bar of %s: %s", stage, error)
    return bar
