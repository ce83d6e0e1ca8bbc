"""Selects tonight's coreset."""

from prefect import flow

from dealrec_core.lake.nights import Snapshot
from tasks.nights import NightRequest, one_night
from tasks.stages import coreset


@flow(name="select-coreset", flow_run_name="select-coreset {request}", result_serializer="json")
def select_coreset(request: NightRequest = NightRequest()) -> Snapshot:
    """Selects tonight's coreset."""
    with one_night(request) as night:
        return coreset.select_coreset(night)
