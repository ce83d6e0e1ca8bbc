"""Prefect events of a night: automations start flows and raise alarms on them (deployments/automations.yaml)."""

from typing import Any

from prefect.events import emit_event
from prefect.runtime import flow_run

from dealrec_core.lake import Lake
from dealrec_core.lake.nights import Night, Snapshot

CANDIDATE, QUARANTINE, LOST = "model.candidate", "quarantine.over", "champion.lost"


def emit(night: Night, event: str, **payload: Any) -> None:
    """Tells Prefect's event bus. `dealrec.followed` says whether the run that emits continues by itself.

    An automation that starts the next stage must match `dealrec.followed: "no"`, or a whole night would do it twice.
    """
    followed = "yes" if flow_run.parent_flow_run_id else "no"
    resource = {"prefect.resource.id": f"dealrec.night.{night.name}", "prefect.resource.name": night.name}
    payload = {"night": night.name, "lake": night.lake.root, **payload}
    emit_event(event, resource={**resource, "dealrec.followed": followed}, payload=payload)


def candidate(night: Night, tuned: Snapshot) -> None:
    """A tuned model waits for its evaluation."""
    emit(night, CANDIDATE, path=tuned.path, sha256=tuned.sha256, examples=tuned.rows)


def watch_quarantine(night: Night, ingested: Snapshot) -> None:
    """Raises an event when too large a share of the rows that were read is bad."""
    read, bad = (int(ingested.facts.get(name) or 0) for name in ("rows read", "quarantined"))
    limit = night.config.run.quarantine_alert
    if read and bad / read > limit:
        message = f"{bad:,} of {read:,} rows are in quarantine ({bad / read:.1%}, limit {limit:.1%}); see the table `quarantine`"
        emit(night, QUARANTINE, message=message, bad=bad, read=read)


def champion_lost(lake: Lake, *, version: str, message: str) -> None:
    """The champion of the promotions is not in MLflow."""
    resource = {"prefect.resource.id": f"dealrec.champion.{version}", "prefect.resource.name": f"version {version}"}
    emit_event(LOST, resource=resource, payload={"version": version, "message": message, "lake": lake.root})
