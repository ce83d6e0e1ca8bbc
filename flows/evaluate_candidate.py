"""Compares tonight's model with champion, surrogate and plain baselines, and tonight's coreset with random ones; refits a better one."""

from prefect import flow

from dealrec_core.lake.nights import Snapshot
from tasks.nights import NightRequest, one_night
from tasks.stages import evaluation, proxy, refit


@flow(name="evaluate-candidate", flow_run_name="evaluate-candidate {request}", result_serializer="json")
def evaluate_candidate(request: NightRequest = NightRequest()) -> Snapshot:
    """Compares tonight's model with champion, surrogate and baselines, its coreset with random ones, and refits a better model."""
    with one_night(request) as night:
        evaluated = evaluation.evaluate_candidate(night)
        proxy.compare_with_random(night)
        refit.refit(night)
        return evaluated
