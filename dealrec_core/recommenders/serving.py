"""A bundle as MLflow's pyfunc flavour loads it: a module with `_load_pyfunc`, so that nothing is pickled."""

from pathlib import Path

from dealrec_core.language.device import device
from dealrec_core.recommenders import bundle
from dealrec_core.samples.served import Served


def _load_pyfunc(data_path: str) -> Served:
    """Called by MLflow with the folder of the bundle."""
    return Served(bundle.load(Path(data_path), device=device("auto")))
