"""Maps work over shards: here, one after the other, or as Prefect tasks on a Ray cluster (`run.engine`)."""

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any, TypeVar

import torch
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.settings import PREFECT_API_URL

from dealrec_core.errors import SettingsError
from dealrec_core.lake.nights import code_fingerprint
from dealrec_core.lake.parallel import Over
from dealrec_core.settings.run import RunConfig

Item = TypeVar("Item")
Result = TypeVar("Result")

STORE_BYTES = 2**30
"""Bytes of shared memory for data on its way to and from the workers of a cluster that is started on this machine."""


@contextmanager
def engine(run: RunConfig, *, name: str, device: str = "cpu") -> Iterator[Over | None]:
    """The map over shards for `run.engine`: None for this process, else one over a Ray cluster, started at the first shard.

    The cluster is the one at `run.ray_address`, or one of this machine that stops with the block. A worker computes with as
    many threads as this process, so that sums are made in the same order, and takes as many CPUs; on cuda it takes a GPU.
    Ray repeats a shard whose worker dies.

    Raises:
        SettingsError: the extra is not installed, no Prefect server is named that workers could reach, no machine of
            the cluster has that many CPUs or a GPU, or the workers run other code.
    """
    if run.engine == "threads":
        yield None
        return
    _check(run)
    threads, gpus = torch.get_num_threads(), int(device == "cuda")
    with ExitStack() as stack:

        @cache
        def cluster() -> tuple[Any, int]:
            """The task runner, and how many shards it computes at once."""
            from prefect_ray import RayTaskRunner  # the extra `ray`, and a second to import
            from prefect_ray.context import remote_options

            runner = stack.enter_context(RayTaskRunner(run.ray_address or "local", _start_options(run)))
            stack.enter_context(remote_options(num_cpus=threads, num_gpus=gpus))
            return runner, _places(threads, gpus)

        def over(function: Callable[[Item], Result], shards: Iterable[Item], /) -> Iterator[Result]:
            work = {"function": function, "threads": threads, "code": code_fingerprint()}
            waiting: deque[Any] = deque()
            for shard in shards:
                runner, places = cluster()
                waiting.append(runner.submit(_on_worker.with_options(name=name), {**work, "shard": shard}))
                if len(waiting) > places:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

        yield over


@task(cache_policy=NO_CACHE)
def _on_worker(function: Callable[[Any], Any], threads: int, code: str, shard: Any) -> Any:
    if code_fingerprint() != code:
        raise SettingsError("the workers of run.ray_address run other code than this process; give both one image")
    torch.set_num_threads(threads)
    return function(shard)


def _check(run: RunConfig) -> None:
    if find_spec("prefect_ray") is None:
        raise SettingsError(
            "run.engine = 'ray' needs an extra; run pip install -e '.[ray]', or set run.engine to 'threads'"
        )
    if not PREFECT_API_URL.value():
        server = "a Prefect server that the workers reach; set PREFECT_API_URL (`make up` starts one)"
        raise SettingsError(f"run.engine = 'ray' needs {server}")


def _start_options(run: RunConfig) -> dict[str, Any]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet = {"log_to_driver": False, "logging_level": "warning"}
    if run.ray_address is not None:
        return quiet
    return {**quiet, "include_dashboard": False, "object_store_memory": STORE_BYTES, "_node_ip_address": "127.0.0.1"}


def _places(cpus: int, gpus: int) -> int:
    """How many shards the cluster computes at once."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    places = sum(int(min(has.get("CPU", 0) // cpus, has.get("GPU", 0) // gpus if gpus else math.inf)) for has in nodes)
    if places == 0:
        raise SettingsError(
            f"no machine of the Ray cluster has {cpus} CPUs and {gpus} GPUs, which a shard needs; "
            "set OMP_NUM_THREADS or run.device, or add a machine"
        )
    return places
