"""Reads quarantined rows again after a correction, by hand."""

from datetime import UTC, datetime

from prefect import flow

from dealrec_core.lake.ledger import IngestReport
from tasks.ingest import replay_quarantine as replayed
from tasks.nights import NightRequest


@flow(name="replay-quarantine", persist_result=True, result_serializer="json")
def replay_quarantine(request: NightRequest = NightRequest()) -> IngestReport:
    """Lands quarantined rows that are good by the settings of now; the next night makes samples of them."""
    return replayed(request.settings(), request.day or datetime.now(UTC).date())
