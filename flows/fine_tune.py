"""Tunes the language model on the coreset."""

from prefect import flow

from dealrec_core.lake.nights import Snapshot
from tasks import events
from tasks.nights import NightRequest, one_night
from tasks.stages import fine_tune as stage


@flow(name="fine-tune", flow_run_name="fine-tune {request}", result_serializer="json")
def fine_tune(request: NightRequest = NightRequest()) -> Snapshot:
    """Tunes the language model on the coreset."""
    with one_night(request) as night:
        tuned = stage.fine_tune(night)
        events.candidate(night, tuned)
        return tuned
