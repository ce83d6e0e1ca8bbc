"""The frame of every stage: skip it when it is recorded, else run it, record it, and show it in Prefect."""

import functools
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.concurrency.sync import concurrency
from prefect.logging import get_run_logger

from dealrec_core.errors import DealrecError, LakeError, RegistryError, SourceError, plain
from dealrec_core.lake import space
from dealrec_core.lake.nights import Night, Snapshot
from tasks.progress import watcher
from tasks.report.show import show_stage
from tasks.tonight import Tonight

MAY_PASS = (LakeError, RegistryError, SourceError, OSError)
"""Faults that another try may not meet again; every other dealrec error is the same the second time."""

COMPUTES = {"surrogate", "base_model", "influence", "effort", "coreset", "fine_tune", "evaluation", "refit"}
"""Stages that take a GPU where the settings give them one."""
GPU = "gpu"
"""Prefect's global concurrency limit: one GPU is never used by two stages at once."""


def stage(name: str, *, retries: int = 2) -> Callable[[Callable[[Tonight], Snapshot]], Task[[Night], Snapshot]]:
    """Makes a Prefect task of a function that does one stage of a night.

    A stage that this night has recorded is not done again. Prefect retries and shows; the record is ours.
    """

    def decorate(work: Callable[[Tonight], Snapshot]) -> Task[[Night], Snapshot]:
        @functools.wraps(work)
        def run(night: Night) -> Snapshot:
            log = get_run_logger()
            recorded = night.find(name)
            if recorded is not None:
                log.info("%s of night %s has finished before: its result is used again", name, night.name)
                watcher().ends(recorded)
                return recorded
            log.info("%s of night %s: start", name, night.name)
            watcher().begins(night, name)
            tonight = Tonight(night)
            device = tonight.device.type if name in COMPUTES else None
            with _turn(device), space.watched(night.lake.root, night.config.run.home, tempfile.gettempdir()):
                started = time.monotonic()
                snapshot = work(tonight)
            seconds = round(time.monotonic() - started, 3)
            done = night.record(snapshot.model_copy(update={"seconds": seconds, "device": device}))
            facts = ", ".join(f"{fact} {plain(value)}" for fact, value in done.facts.items())
            log.info("%s of night %s: done in %.1f s, %s", name, night.name, seconds, facts)
            show_stage(night, done)
            watcher().ends(done)
            return done

        return task(
            name=name.replace("_", " "),
            retries=retries,
            retry_delay_seconds=[1.0, 5.0][:retries],
            retry_condition_fn=_worth_retrying,
            cache_policy=NO_CACHE,
            result_serializer="json",
        )(run)

    return decorate


@contextmanager
def _turn(device: str | None) -> Iterator[None]:
    """Waits until no other stage holds the GPU; Prefect frees the slot of a killed process after the lease."""
    with concurrency(GPU, occupy=1) if device == "cuda" else nullcontext():
        yield


def _worth_retrying(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    error = state.result(raise_on_failure=False)
    if isinstance(error, SourceError) and error.__cause__ is None:
        return False  # a folder that is not there is not there the second time either
    return isinstance(error, MAY_PASS) or not isinstance(error, DealrecError)
