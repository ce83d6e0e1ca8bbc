"""Scores every train sample: influence by the surrogate, effort by the language model."""

from prefect import flow

from dealrec_core.coreset.methods import NEEDS
from dealrec_core.lake.nights import Snapshot
from tasks.nights import NightRequest, one_night
from tasks.stages.base_model import provide_base_model
from tasks.stages.effort import score_effort
from tasks.stages.influence import score_influence


@flow(name="score-samples", flow_run_name="score-samples {request}", result_serializer="json")
def score_samples(request: NightRequest = NightRequest()) -> Snapshot:
    """Computes the scores that the selection method needs, and provides the base model; a random choice needs no score."""
    with one_night(request) as night:
        needs = NEEDS[night.config.coreset.tried]
        if "influence" in needs:
            score_influence(night)
        base_model = provide_base_model(night)
        return score_effort(night) if "effort" in needs else base_model
