"""Reads quarantined rows again after a correction, by hand."""

from datetime import UTC, datetime

from prefect import flow

from dealrec_core.lake.ledger import IngestReport
from dealrec_core.lake.nights import last_whole_day
from tasks.nights import NightRequest
from tasks.stages import ingest


@flow(name="replay-quarantine", result_serializer="json")
def replay_quarantine(request: NightRequest = NightRequest()) -> IngestReport:
    """Writes quarantined rows that are good with the present settings; the next night makes samples of them."""
    return ingest.replay_quarantine(request.settings(), request.day or last_whole_day(datetime.now(UTC)))
