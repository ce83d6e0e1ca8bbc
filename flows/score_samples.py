"""Scores every train sample: influence by the surrogate, effort by the language model."""

from prefect import flow

from dealrec_core.lake.nights import Snapshot
from tasks.base_model import provide_base_model
from tasks.nights import NightRequest, one_night
from tasks.scores import score_effort, score_influence


@flow(name="score-samples", flow_run_name="score-samples {request}", persist_result=True, result_serializer="json")
def score_samples(request: NightRequest = NightRequest()) -> Snapshot:
    """Scores every train sample: influence by the surrogate, effort by the language model."""
    with one_night(request) as night:
        score_influence(night)
        provide_base_model(night)
        return score_effort(night)
