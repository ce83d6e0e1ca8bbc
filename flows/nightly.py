"""One night: read new rows, choose the samples worth learning, tune on them, and promote the model only if it is better.

raw logs ─ ingest ─▶ samples ─┬─ retrain_surrogate ─▶ surrogate ─┐
                              └─ score_samples ◀─────────────────┘ ─▶ influence, effort
                                 select_coreset ─▶ coreset
                                 fine_tune ─▶ candidate ─ evaluate_candidate ─ promote ─▶ champion
"""

from prefect import flow
from prefect.deployments import run_deployment

from dealrec_core.lake.nights import Night
from flows.evaluate_candidate import evaluate_candidate
from flows.fine_tune import fine_tune
from flows.ingest import ingest
from flows.promote import promote
from flows.retrain_surrogate import retrain_surrogate
from flows.score_samples import score_samples
from flows.select_coreset import select_coreset
from tasks import base_models, champions
from tasks.nights import NightRequest, NightSummary, one_night, summarise
from tasks.report.show import show_night

NIGHT = (ingest, retrain_surrogate, score_samples, select_coreset, fine_tune, evaluate_candidate, promote)
ON_GPU = {retrain_surrogate.name, score_samples.name, fine_tune.name, evaluate_candidate.name}
"""Steps that run as their own deployments where `run.placement` is pools."""


@flow(name="nightly", flow_run_name="nightly {request}", result_serializer="json")
def nightly(request: NightRequest = NightRequest()) -> NightSummary:
    """Runs or continues one night; a finished night changes nothing and says so."""
    with one_night(request) as night:
        if night.finished:
            return show_night(night, summarise(night, before=True))
        if night.config.run.placement == "here":
            base_models.look(night.config)
            champions.require_experiment(night.config.registry)
            return _steps(night, request)
    return _steps(night, request)  # the lake is free: every step holds it for itself, on whatever machine it runs


def _steps(night: Night, request: NightRequest) -> NightSummary:
    tonight = NightRequest(night=night.name, config=request.config, overrides=request.overrides)
    for step in NIGHT:
        if request.wants(step.name):
            if night.config.run.placement == "pools" and step.name in ON_GPU:
                _run_in_its_pool(step.name, tonight)
            else:
                step(tonight)
        if night.finished:
            break
    return show_night(night, summarise(night))


def _run_in_its_pool(name: str, request: NightRequest) -> None:
    """Starts the deployment of a step and waits; its failure is the night's."""
    run = run_deployment(f"{name}/{name}", parameters={"request": request.model_dump(mode="json")}, poll_interval=2)
    run.state.result()  # type: ignore[union-attr]
