"""Calibrates a recommender on tonight's validation users, whatever kind it is."""

from dataclasses import replace
from typing import TypeVar

from dealrec_core.errors import DataError
from dealrec_core.evaluation import calibrating
from dealrec_core.lake.nights import Fact
from dealrec_core.recommenders.bigrec import BIGRec
from dealrec_core.recommenders.tiger import Tiger
from dealrec_core.surrogate.recommender import SurrogateRecommender
from tasks.tonight import Tonight

R = TypeVar("R", BIGRec, Tiger, BIGRec | Tiger, SurrogateRecommender)


def calibrated(tonight: Tonight, recommender: R) -> tuple[R, dict[str, Fact]]:
    """The recommender with the weights that validation users gave it and tonight's priors, and the facts about the fit.

    The weights are fitted with the priors of the moment at which the validation slice begins; the recommender is served
    with those of the moment at which the held-out slice begins.
    """
    config, bounds = tonight.config, tonight.boundaries
    if not config.evaluation.calibration_users:
        return recommender, {}
    try:
        cases = tonight.validation_cases
    except DataError:
        return recommender, {"calibration": "none: no user with a history has an interaction in the validation slice"}
    before, now = (
        replace(tonight.priors(moment), titles=recommender.title_chances)
        for moment in (bounds.validation_start, bounds.test_start)
    )
    fitted = calibrating.fit(recommender, cases, before, config.algorithms.evaluation, seed=config.run.seed)
    days = fitted.weights.half_life * (bounds.test_start - bounds.validation_start).total_seconds() / 86400
    facts: dict[str, Fact] = {**fitted.facts(), "calibration half-life in days": round(days, 3)}
    return replace(recommender, calibration=now.calibration(fitted.weights)), facts
