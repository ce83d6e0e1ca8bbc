"""A whole night with a real pretrained language model; it takes minutes, and only where the model is."""

import pytest

from dealrec_core.errors import SettingsError
from dealrec_core.lake import Lake, nights
from dealrec_core.language import bases
from flows.nightly import nightly
from tasks.nights import NightRequest
from tasks.tonight import Tonight

NAME = "smollm2-135m"
SMALL = [
    f'language_model.base_model="{NAME}"',
    'recommender.prompt.frame="plain"',
    "recommender.titles=3",
    "coreset.count=32",
    "fine_tune.epochs=1",
    "evaluation.users=8",
    "evaluation.calibration_users=0",  # a calibration scores every title of the catalogue
    "surrogate.epochs=1",
    "surrogate.width=16",
]


@pytest.mark.data
@pytest.mark.timeout(7200)
def test_a_night_of_movielens_with_smollm2(data_root, tmp_path, prefect_server):
    try:
        base = bases.locate(NAME)
    except SettingsError as error:
        pytest.skip(f"{error}, and start the tests with DEALREC_MODELS=~/.cache/dealrec/models")
    places = [
        f"sources.root={data_root}/movielens-small",
        f"run.home={tmp_path}",
        f"lake.root={tmp_path}/lake",
        f"registry.tracking_uri=sqlite:///{tmp_path}/mlflow.db",
        f"registry.artifacts={tmp_path}/artifacts",
    ]
    request = NightRequest(day="1997-01-01", config="deployments/examples/movielens.toml", overrides=[*SMALL, *places])
    summary = nightly(request)
    assert summary.outcome in ("promoted", "rejected", "unchanged")
    assert summary.coreset == 32
    (night,) = nights.nights(Lake(f"{tmp_path}/lake"))
    assert night.need("base_model").sha256 == base.sha256
    folder = Tonight(night).candidate_folder
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 50e6  # the base has 270 MB
