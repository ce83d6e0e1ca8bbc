"""Compares tonight's model with champion, surrogate and plain baselines; refits a better one."""

from prefect import flow

from dealrec_core.lake.nights import Snapshot
from tasks.nights import NightRequest, one_night
from tasks.stages import evaluation, refit


@flow(name="evaluate-candidate", flow_run_name="evaluate-candidate {request}", result_serializer="json")
def evaluate_candidate(request: NightRequest = NightRequest()) -> Snapshot:
    """Compares tonight's model with champion, surrogate and baselines, and refits a better one."""
    with one_night(request) as night:
        evaluated = evaluation.evaluate_candidate(night)
        refit.refit(night)
        return evaluated
