"""One night: take what is new, choose what is worth learning, tune, and promote only if better.

raw logs ─ ingest ─▶ samples ─┬─ retrain_surrogate ─▶ surrogate ─┐
                              └─ score_samples ◀─────────────────┘ ─▶ influence, effort
                                 select_coreset ─▶ coreset
                                 fine_tune ─▶ candidate ─ evaluate_candidate ─ promote ─▶ champion
"""

from prefect import flow

from flows.evaluate_candidate import evaluate_candidate
from flows.fine_tune import fine_tune
from flows.ingest import ingest
from flows.promote import promote
from flows.retrain_surrogate import retrain_surrogate
from flows.score_samples import score_samples
from flows.select_coreset import select_coreset
from tasks.nights import NightRequest, NightSummary, one_night, summarise
from tasks.show import show_night


@flow(name="nightly", persist_result=True, result_serializer="json")
def nightly(request: NightRequest = NightRequest()) -> NightSummary:
    """Runs or continues one night; a finished night changes nothing and says so."""
    with one_night(request) as night:
        if night.finished:
            return show_night(summarise(night, before=True))
        tonight = NightRequest(night=night.name, config=request.config, overrides=request.overrides)
        if ingest(tonight).facts.get("empty"):
            return show_night(summarise(night))
        retrain_surrogate(tonight)
        score_samples(tonight)
        select_coreset(tonight)
        fine_tune(tonight)
        evaluate_candidate(tonight)
        promote(tonight)
        return show_night(summarise(night))
