"""Takes new raw files into the lake and builds samples."""

from prefect import flow

from dealrec_core.lake.nights import Snapshot
from tasks import events
from tasks.ingest import build_samples, take_new_files
from tasks.nights import NightRequest, one_night


@flow(name="ingest", flow_run_name="ingest {request}", persist_result=True, result_serializer="json")
def ingest(request: NightRequest = NightRequest()) -> Snapshot:
    """Takes new raw files into the lake and builds samples; on an empty day it ends early and says so."""
    with one_night(request) as night:
        taken = take_new_files(night)
        events.watch_quarantine(night, taken)
        if not taken.facts["empty"]:
            build_samples(night)
        return taken
