import pytest

from flows.nightly import nightly
from tasks.nights import NightRequest

pytestmark = pytest.mark.data


def test_nights_over_real_days_of_movielens_take_only_new_rows(data_root, tmp_path, prefect_server):
    small = ["surrogate.epochs=1", "surrogate.width=16", "language_model.steps=20", "language_model.width=32"]
    sizes = [
        "evaluation.users=20",
        "fine_tune.epochs=1",
        "coreset.count=64",
        "influence.solver=identity",
        "samples.mode=last",
    ]
    places = [
        f"sources.root={data_root}/movielens-small",
        f"run.home={tmp_path}",
        f"lake.root={tmp_path}/lake",
        f"registry.tracking_uri=sqlite:///{tmp_path}/mlflow.db",
        f"registry.artifacts={tmp_path}/artifacts",
    ]
    config = "deployments/examples/movielens.toml"
    requests = [
        NightRequest(day=day, only=only, config=config, overrides=[*small, *sizes, *places])
        for day, only in (("2016-10-10", ["ingest"]), ("2016-10-16", []), ("2016-10-16", []))
    ]
    first, second, again = [nightly(request) for request in requests]
    # awk -F, '$3 >= 4' ratings.csv: 51,568 rows, 102 of them after 2016-10-10
    assert (first.rows_new, second.rows_new, again.rows_new) == (51466, 102, 0)
    assert again.outcome == "done before"
