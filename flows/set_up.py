"""Applies pools, limits, deployments, automations and the MLflow webhook to the servers of this installation."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import yaml
from prefect.automations import AutomationCore
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentUpdate, GlobalConcurrencyLimitCreate, WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectHTTPStatusError
from pydantic import SecretStr

from dealrec_core import settings
from dealrec_core.errors import SettingsError
from tasks import registry
from tasks.nights import CHANGEABLE
from tasks.stage import GPU

FOLDER = Path(__file__).resolve().parent.parent / "deployments"
POOLS = ("cpu", "gpu")
NOWHERE = "http://127.0.0.1:9/alarms"


def apply(config: str, *, pool_type: str) -> list[str]:
    """Applies everything; what is there already is brought up to date. Returns one line per kind of thing.

    Raises:
        SettingsError: PREFECT_API_URL is not set, the login was refused, or the deployments were.
    """
    if not os.environ.get("PREFECT_API_URL"):
        message = "PREFECT_API_URL is not set; `make up` starts a server, `export PREFECT_API_URL=…` names one"
        raise SettingsError(message)
    with get_client(sync_client=True) as client:
        _check_login(client)
        _pools(client, pool_type)
        _deployments()
        _show_present_values(client, config)
        names = _automations(client)
        nightly = client.read_deployment_by_name("nightly/nightly")
    page = os.environ["PREFECT_API_URL"].removesuffix("/api")
    lines = [f"work pools {', '.join(POOLS)} ({pool_type})", "deployments", f"{len(names)} automations"]
    lines += [f"start a night: {page}/deployments/deployment/{nightly.id}/run"]
    if (nights := registry.list_nights(settings.load(config).registry)) is not None:
        lines.append(f"nights in MLflow: {nights}")
    return lines + _webhook(config)


def _check_login(client: SyncPrefectClient) -> None:
    try:
        client.read_work_pools(limit=1)
    except PrefectHTTPStatusError as error:
        if error.response.status_code != HTTPStatus.UNAUTHORIZED:
            raise
        message = (
            "Prefect's server refuses the login; set PREFECT_API_AUTH_STRING (`. var/secrets/login.sh` after `make up`)"
        )
        raise SettingsError(message) from error


def _pools(client: SyncPrefectClient, pool_type: str) -> None:
    for name in POOLS:
        limit = 1 if name == "gpu" else None
        with suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name=name, type=pool_type, concurrency_limit=limit))
    try:
        client.read_global_concurrency_limit_by_name(GPU)
    except ObjectNotFound:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=GPU, limit=1))


def _deployments() -> None:
    deploy = ["deploy", "--all", "--prefect-file", str(FOLDER / "prefect.yaml")]
    command = [sys.executable, "-m", "prefect", "--no-prompt", *deploy]
    done = subprocess.run(command, cwd=FOLDER.parent, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SettingsError(f"Prefect refused the deployments: {done.stdout[-1500:]}{done.stderr[-1500:]}")


def _show_present_values(client: SyncPrefectClient, config: str) -> None:
    """Puts the value that the settings file has now before the description of every setting in the forms."""
    present = settings.load(config)
    for deployment in client.read_deployments(limit=200):
        schema = deployment.parameter_openapi_schema or {}
        fields = schema.get("definitions", {}).get("Changes", {}).get("properties", {})
        for key in CHANGEABLE if fields else ():
            section, name = key.split(".")
            field = fields[f"{section}_{name}"]
            field["description"] = f"Now {getattr(getattr(present, section), name)}. {field['description']}"
        if fields:
            client.update_deployment(deployment.id, DeploymentUpdate(parameter_openapi_schema=schema))


def _automations(client: SyncPrefectClient) -> list[str]:
    alarms_to = os.environ.get("DEALREC_ALERT_URL")
    block = Webhook(method="POST", url=SecretStr(alarms_to or NOWHERE)).save("dealrec-alarms", overwrite=True)
    present = {automation.name: automation for automation in client.read_automations()}
    described_automations = yaml.safe_load((FOLDER / "automations.yaml").read_text("utf-8"))
    for described in described_automations:
        automation = AutomationCore.model_validate(_resolved(client, described, str(block)))
        automation.enabled = alarms_to is not None or not described["name"].startswith("dealrec alarm")
        if described["name"] in present:
            client.delete_automation(present[described["name"]].id)
        client.create_automation(automation)
    return [described["name"] for described in described_automations]


def _resolved(client: SyncPrefectClient, described: dict[str, Any], block: str) -> dict[str, Any]:
    """Names of deployments and of the block become their ids."""
    resolved: dict[str, Any] = json.loads(json.dumps(described))
    resolved["trigger"]["type"] = "event"
    for action in resolved["actions"]:
        if "deployment" in action:
            deployment = client.read_deployment_by_name(action.pop("deployment"))
            action |= {"source": "selected", "deployment_id": str(deployment.id)}
        if action.pop("block", None):
            action["block_document_id"] = block
    return resolved


def _webhook(config: str) -> list[str]:
    """Makes MLflow tell the bridge about aliases, where there is a bridge."""
    address, secret = os.environ.get("DEALREC_BRIDGE_URL"), os.environ.get("DEALREC_WEBHOOK_SECRET")
    if not (address and secret):
        unset = "no bridge (DEALREC_BRIDGE_URL, DEALREC_WEBHOOK_SECRET)"
        return [f"{unset}: a champion set in MLflow is seen by the next night"]
    registry.listen(settings.load(config).registry, address=address, secret=secret)
    return [f"MLflow tells {address} about the champion alias"]
