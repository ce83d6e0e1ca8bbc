"""Loads a surrogate for MLflow's pyfunc flavour: a module with `_load_pyfunc`, so that nothing is pickled."""

from pathlib import Path

from dealrec_core.samples.served import Served
from dealrec_core.surrogate import checkpoint
from dealrec_core.surrogate.recommender import SurrogateRecommender


def _load_pyfunc(data_path: str) -> Served:
    """Called by MLflow with the folder of the checkpoint; an empty history is answered with nothing."""
    folder = Path(data_path)
    model, item_ids, _ = checkpoint.load(folder)
    return Served(SurrogateRecommender(model, item_ids, calibration=checkpoint.load_calibration(folder)))
