"""What all stages share: skip what is recorded, run, record, and show it in Prefect."""

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.concurrency.sync import concurrency
from prefect.logging import get_run_logger

from dealrec_core.errors import DealrecError, LakeError, RegistryError, SourceError
from dealrec_core.lake.nights import Night, Snapshot
from tasks.show import show_stage

MAY_PASS = (LakeError, RegistryError, SourceError, OSError)
"""Faults that another try may not meet again; every other dealrec error is the same the second time."""

COMPUTES = {"surrogate", "base_model", "influence", "effort", "fine_tune", "evaluation"}
"""Stages that take a GPU where the settings give them one."""
GPU = "gpu"
"""Prefect's global concurrency limit: one GPU is never used by two stages at once."""


def stage(name: str, *, retries: int = 2) -> Callable[[Callable[[Night], Snapshot]], Task[[Night], Snapshot]]:
    """Makes a Prefect task of a function that does one stage of a night.

    A stage that this night has recorded is not done again. Prefect retries and shows; the record is ours.
    """

    def decorate(work: Callable[[Night], Snapshot]) -> Task[[Night], Snapshot]:
        @functools.wraps(work)
        def run(night: Night) -> Snapshot:
            log = get_run_logger()
            found = night.find(name)
            if found is not None:
                log.info("%s of night %s is done already: kept", name, night.name)
                return found
            log.info("%s of night %s: start", name, night.name)
            where = device(night).type if name in COMPUTES else None
            with _turn(where):
                started = time.monotonic()
                made = work(night)
            done = made.model_copy(update={"seconds": round(time.monotonic() - started, 3), "device": where})
            night.record(done)
            log.info("%s of night %s: done in %.1f s, %s", name, night.name, done.seconds, _facts(done))
            show_stage(night, done)
            return done

        return task(
            name=name.replace("_", " "),
            retries=retries,
            retry_delay_seconds=[1.0, 5.0][:retries],
            retry_condition_fn=_worth_retrying,
            cache_policy=NO_CACHE,
            persist_result=True,
            result_serializer="json",
        )(run)

    return decorate


def device(night: Night) -> torch.device:
    """The device that the settings ask for; auto takes a GPU when there is one."""
    wanted = night.config.run.device
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(wanted)


@contextmanager
def _turn(where: str | None) -> Iterator[None]:
    """Waits until no other stage holds the GPU; Prefect frees the slot of a killed process after the lease."""
    if where != "cuda":
        yield
        return
    with concurrency(GPU, occupy=1):
        yield


def _worth_retrying(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    error = state.result(raise_on_failure=False)
    if isinstance(error, SourceError) and error.__cause__ is None:
        return False  # a folder that is not there is not there the second time either
    return isinstance(error, MAY_PASS) or not isinstance(error, DealrecError)


def _facts(snapshot: Snapshot) -> str:
    return ", ".join(f"{name} {value}" for name, value in snapshot.facts.items())
