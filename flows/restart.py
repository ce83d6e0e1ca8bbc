"""Starts a crashed night again, once; called by an automation."""

from typing import Any
from uuid import UUID

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun

from dealrec_core.lake.nights import last_whole_day

RESTARTED = "started-again"


@flow(name="restart", result_serializer="json")
def restart(flow_run: str) -> str:
    """Starts the deployment of a crashed run again with its parameters, unless that run was itself started in this way.

    flow_run: its id, also as `prefect.flow-run.<id>`.
    """
    with get_client(sync_client=True) as client:
        crashed = client.read_flow_run(UUID(flow_run.removeprefix("prefect.flow-run.")))
        if refusal := _refusal(crashed):
            return refusal
        again = client.create_flow_run_from_deployment(
            crashed.deployment_id,  # type: ignore[arg-type]
            parameters=same_night(crashed),
            tags=[*crashed.tags, RESTARTED],
            idempotency_key=f"again-{crashed.id}",
        )
    return f"run {crashed.name} crashed: {again.name} continues its night"


def same_night(crashed: FlowRun) -> dict[str, Any]:
    """The run's parameters, with the day it meant: after midnight, the last whole day would be another one."""
    parameters = dict(crashed.parameters)
    request = dict(parameters.get("request") or {})
    started = crashed.start_time or crashed.expected_start_time
    if started and not any(request.get(name) for name in ("day", "night", "resume")):
        request["day"] = last_whole_day(started).isoformat()
    return {**parameters, "request": request}


def _refusal(crashed: FlowRun) -> str | None:
    if RESTARTED in crashed.tags:
        return f"run {crashed.name} was started again once and crashed again: look at its log, then start it by hand"
    if crashed.deployment_id is None:
        return f"run {crashed.name} has no deployment: start it again where it was started"
    return None
