"""Registers tonight's model and promotes it if it is better."""

from prefect import flow

from dealrec_core.night import Snapshot
from tasks.nights import NightRequest, one_night
from tasks.promotion import promote as register_and_judge


@flow(name="promote", persist_result=True, result_serializer="json")
def promote(request: NightRequest = NightRequest()) -> Snapshot:
    """Registers tonight's model and promotes it if it is better."""
    with one_night(request) as night:
        return register_and_judge(night)
