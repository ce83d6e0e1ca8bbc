"""Reads new raw files into the lake and builds samples."""

from prefect import flow

from dealrec_core.lake.nights import Snapshot
from tasks import events
from tasks.nights import NightRequest, one_night
from tasks.stages import ingest as files
from tasks.stages import samples


@flow(name="ingest", flow_run_name="ingest {request}", result_serializer="json")
def ingest(request: NightRequest = NightRequest()) -> Snapshot:
    """Reads new raw files into the lake and builds samples. If nothing new arrived, the run ends early and says so."""
    with one_night(request) as night:
        taken = files.ingest(night)
        events.watch_quarantine(night, taken)
        if not taken.facts["empty"]:
            samples.build_samples(night)
        return taken
