"""Shows how far a long stage is: to whoever watches this process, as a progress artifact until it ends, and as a log line with counts."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.exceptions import PrefectException
from prefect.logging import get_run_logger

from dealrec_core.lake.nights import Night, Snapshot
from dealrec_core.language.progress import Progress

EVERY_S = 5.0
"""A shorter stage shows nothing in Prefect and pays nothing; a longer one moves its bar so often at most."""


class Watcher:
    """Receives the events of this process's stages and ignores them. `flows.screen.Screen` is a watcher that shows them on the terminal."""

    def begins(self, night: Night, stage: str) -> None:
        """A stage starts."""

    def moves(self, done: int, total: int, unit: str) -> None:
        """The running stage has done a part of its work."""

    def ends(self, record: Snapshot) -> None:
        """A stage has finished, now or in an earlier start of the night."""


_watchers: list[Watcher] = [Watcher()]


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Tells a watcher about the stages of this process until the block ends."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


def watcher() -> Watcher:
    """Returns the watcher of this process."""
    return _watchers[-1]


@contextmanager
def shown(stage: str, unit: str) -> Iterator[Progress]:
    """The function that a computation calls; a server that does not answer stops no stage."""
    log = get_run_logger()
    last = time.monotonic()
    bar: UUID | None = None

    def tell(done: int, total: int) -> None:
        nonlocal last, bar
        watcher().moves(done, total, unit)
        if time.monotonic() - last < EVERY_S:
            return
        log.info("%s: %s of %s %s", stage, f"{done:,}", f"{total:,}", unit)
        bar = _move(bar, stage, 100 * done / max(total, 1), f"{stage}: {unit}")
        last = time.monotonic()

    try:
        yield tell
    finally:
        if bar is not None:
            _remove(stage)


def _move(bar: UUID | None, stage: str, percent: float, description: str) -> UUID | None:
    try:
        if bar is None:
            return create_progress_artifact(percent, key=_key(stage), description=description)  # type: ignore[return-value]
        update_progress_artifact(bar, progress=percent)
    except (httpx.HTTPError, PrefectException) as error:
        get_run_logger().debug("no progress bar of %s: %s", stage, error)
    return bar


def _remove(stage: str) -> None:
    """Deletes the bars of a stage, also those of runs that were killed: among the results of a night they would be noise."""
    bars = ArtifactFilter(key=ArtifactFilterKey(any_=[_key(stage)]))
    try:
        with get_client(sync_client=True) as client:
            for bar in client.read_artifacts(artifact_filter=bars):
                client.delete_artifact(bar.id)
    except (httpx.HTTPError, PrefectException) as error:
        get_run_logger().debug("the progress bar of %s stays: %s", stage, error)


def _key(stage: str) -> str:
    return f"{stage.replace('_', '-')}-progress"
