"""Prefect's server cleans its own database: the settings that we ship are ones that this version knows."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from prefect.settings.models.server.services import ServerServicesDBVacuumSettings

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "PREFECT_SERVER_SERVICES_DB_VACUUM_"
SCRIPT = (ROOT / "deployments" / "up.sh").read_text("utf-8")
SHIPPED = {
    "up.sh": dict(re.findall(rf"export ({PREFIX}\w+)=(?:\$\{{\w+:-)?([\w,]+)", SCRIPT)),
    "compose.yaml": {
        name: value
        for service in yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text("utf-8"))["services"].values()
        for name, value in service.get("environment", {}).items()
        if name.startswith(PREFIX)
    },
    "server.yaml": {
        each["name"]: each["value"]
        for each in yaml.safe_load((ROOT / "deployments" / "kubernetes" / "server.yaml").read_text("utf-8"))["global"]["prefect"]["env"]
        if each["name"].startswith(PREFIX)
    },
}  # fmt: skip


@pytest.mark.parametrize("place", SHIPPED)
def test_old_runs_and_events_are_removed_after_ninety_days(monkeypatch, place):
    for name, value in SHIPPED[place].items():
        monkeypatch.setenv(name, value)
    found = ServerServicesDBVacuumSettings()
    assert found.enabled == {"events", "flow_runs"}  # events alone without the setting
    assert found.retention_period == timedelta(days=90)
    known = {f"{PREFIX}{name.upper()}" for name in ServerServicesDBVacuumSettings.model_fields}
    assert len(SHIPPED[place]) == 2
    assert SHIPPED[place].keys() <= known
