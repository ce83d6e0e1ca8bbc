"""Compares tonight's model with champion, surrogate and plain baselines."""

from prefect import flow

from dealrec_core.night import Snapshot
from tasks.evaluation import evaluate
from tasks.nights import NightRequest, one_night


@flow(name="evaluate-candidate", persist_result=True, result_serializer="json")
def evaluate_candidate(request: NightRequest = NightRequest()) -> Snapshot:
    """Compares tonight's model with champion, surrogate and plain baselines."""
    with one_night(request) as night:
        return evaluate(night)
