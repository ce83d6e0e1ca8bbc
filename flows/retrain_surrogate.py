"""Retrains the surrogate on the night's samples."""

from prefect import flow

from dealrec_core.lake.nights import Snapshot
from tasks.nights import NightRequest, one_night
from tasks.stages import surrogate


@flow(name="retrain-surrogate", flow_run_name="retrain-surrogate {request}", result_serializer="json")
def retrain_surrogate(request: NightRequest = NightRequest()) -> Snapshot:
    """Retrains the surrogate on the night's samples."""
    with one_night(request) as night:
        return surrogate.retrain_surrogate(night)
