"""The champion behind `mlflow models serve`: the documented request, whatever history it holds, and what lies in a version."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import httpx
import mlflow
import pandas as pd
import polars as pl
import pytest
import yaml
from mlflow import MlflowClient

from dealrec_core import schema
from dealrec_core.errors import RegistryError
from dealrec_core.lake import nights as nights
from dealrec_core.settings.surrogate import SurrogateConfig
from dealrec_core.surrogate import checkpoint, networks
from dealrec_core.surrogate.sasrec import Shape
from tasks import registry
from tasks.registry import Content
from tasks.stages import promotion
from tests.deployments.conftest import free_ports

DOCUMENTED = re.search(r"/invocations .* -d '(.*)'", Path("docs/operations.md").read_text("utf-8"))[1]


@pytest.fixture(scope="module")
def served(town, tiger_town, tmp_path_factory):
    """Per backend the address of a scoring server, and its model loaded here; the servers start side by side."""
    places = {"bigrec": town[0], "tiger": tiger_town}
    started, addresses = [], {}
    try:
        for (name, place), port in zip(places.items(), free_ports(2), strict=True):
            folder = tmp_path_factory.mktemp(name)
            shutil.copy(place.config.registry.tracking_uri.removeprefix("sqlite:///"), folder / "mlflow.db")
            store = f"sqlite:///{folder}/mlflow.db"  # a copy: the town's own champion stays as it is
            MlflowClient(store).set_registered_model_alias("recommender", "champion", "2")
            command = ["models", "serve", "-m", "models:/recommender@champion", "--env-manager", "local"]
            path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            with (folder / "log").open("w") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "mlflow", *command, "--port", str(port)],
                    env={**os.environ, "MLFLOW_TRACKING_URI": store, "PATH": path},
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            started.append(process)
            mlflow.set_tracking_uri(store)
            addresses[name] = f"http://127.0.0.1:{port}", mlflow.pyfunc.load_model("models:/recommender@champion")
        for (address, _), process in zip(addresses.values(), started, strict=True):
            wait(address, process)
        yield {name: (*addresses[name], place) for name, place in places.items()}
    finally:
        for process in started:
            os.killpg(process.pid, signal.SIGTERM)  # its own session: the server and its worker
            process.wait()


def wait(address: str, process: subprocess.Popen) -> None:
    for _ in range(240):
        assert process.poll() is None
        try:
            httpx.get(f"{address}/ping").raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.5)
    raise AssertionError(f"no answer from {address}")


def ask(address: str, request: dict) -> list[list[str]]:
    answer = httpx.post(f"{address}/invocations", json=request, timeout=60)
    answer.raise_for_status()
    return [row["item_ids"] for row in answer.json()["predictions"]]


@pytest.mark.services
@pytest.mark.parametrize("backend", ["bigrec", "tiger"])
def test_the_champion_answers_the_documented_request_as_it_does_in_process(served, backend):
    address, model, _ = served[backend]
    request = json.loads(DOCUMENTED)
    histories = [row[0] for row in request["dataframe_split"]["data"]]
    here = model.predict(pd.DataFrame({"history": histories}), params=request["params"])["item_ids"]
    answers = ask(address, request)
    assert [len(set(items)) for items in answers] == [request["params"]["k"]] * len(histories)
    assert answers == [list(items) for items in here]


@pytest.mark.services
@pytest.mark.parametrize("backend", ["bigrec", "tiger"])
def test_cold_items_unknown_items_and_empty_histories_are_answered_from_the_catalogue(served, backend):
    address, model, place = served[backend]
    night = nights.nights(place.lake)[1]
    known = place.lake.scan("items").collect()[schema.ITEM_ID]
    touched = place.lake.scan("interactions").collect()[schema.ITEM_ID]
    cold = sorted(set(known) - set(touched))
    histories = [cold[:2], ["never heard of"], [], ["i00001", "never heard of", cold[0]]]
    data = [[history] for history in histories]
    answers = ask(address, {"dataframe_split": {"columns": ["history"], "data": data}, "params": {"k": 7}})
    assert [len(set(items)) for items in answers] == [7, 7, 7, 7]
    assert all(set(items) <= set(known) for items in answers)
    before = datetime.fromisoformat(night.need("refit").facts["trained through"])  # a refit has learnt the newest days
    counts = place.lake.scan("interactions").filter(pl.col(schema.TIMESTAMP) < before).collect()
    popular = counts.group_by(schema.ITEM_ID).len().sort("len", schema.ITEM_ID, descending=[True, False])
    assert answers[2] == popular[schema.ITEM_ID].head(7).to_list()
    here = model.predict(pd.DataFrame({"history": histories}), params={"k": 7})["item_ids"]
    assert answers == [list(items) for items in here]
    (alone,) = ask(address, {"dataframe_split": {"columns": ["history"], "data": [[[]]]}})
    assert alone[:7] == answers[2]
    assert len(alone) == 10  # k when nobody says


@pytest.mark.services
def test_a_request_without_histories_is_refused_with_the_name_of_the_column(served):
    address, _, _ = served["bigrec"]
    answer = httpx.post(f"{address}/invocations", json={"dataframe_split": {"columns": ["user"], "data": [["u1"]]}})
    assert answer.status_code == 400
    assert "history" in answer.text


@pytest.mark.parametrize("name", ["recommender", "surrogate"])
def test_a_version_holds_no_pickle_and_carries_signature_example_and_lineage(town, name):
    place, _ = town
    mlflow.set_tracking_uri(place.config.registry.tracking_uri)
    version = MlflowClient().get_model_version(name, "2")
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/2"))
    described = yaml.safe_load((folder / "MLmodel").read_text())
    assert "python_model" not in described["flavors"]["python_function"]  # what MLflow pickles
    kinds = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert not kinds & {".pkl", ".pickle", ".bin", ".pt", ".pth", ".joblib"}
    info = mlflow.models.get_model_info(f"models:/{name}/2")
    assert info.signature == registry.SIGNATURE
    assert list(info.saved_input_example_info["artifact_path"])
    night = nights.nights(place.lake)[1]
    assert version.tags["dealrec.night"] == night.name
    assert version.tags["dealrec.interactions"] == f"version {night.need('ingest').version}"
    assert version.tags["dealrec.coreset"].startswith(f"version {night.need('coreset').version}, ")
    assert version.tags["dealrec.bundle"] == night.need("fine_tune").path
    assert version.description == f"Night {night.name}: {night.need('promotion').facts['reason']}"
    assert version.tags["dealrec.verdict"] == night.need("promotion").facts["reason"]


class Answers:
    """A recommender, and what MLflow loads back, with fixed answers."""

    name = "candidate"

    def __init__(self, items: list[str]) -> None:
        self.items = items

    def recommend(self, histories: list[list[str]], k: int) -> list[list[str]]:
        return [self.items[:k] for _ in histories]

    def predict(self, frame: pd.DataFrame, params: dict) -> pd.DataFrame:
        return pd.DataFrame({"item_ids": self.recommend(frame["history"].to_list(), params["k"])})


def test_a_model_that_answers_otherwise_after_loading_back_is_not_let_through():
    histories = [["a"], []]
    promotion.require_same_answers(Answers(["a", "b"]), recommender=Answers(["a", "b"]), histories=histories)
    with pytest.raises(RegistryError, match="candidate gives other recommendations .* not registered"):
        promotion.require_same_answers(Answers(["b", "a"]), recommender=Answers(["a", "b"]), histories=histories)


def test_what_is_not_let_through_has_no_version(town, tmp_path):
    place, _ = town
    store = f"sqlite:///{tmp_path}/mlflow.db"
    config = place.config.registry.model_copy(update={"tracking_uri": store, "artifacts": str(tmp_path / "files")})
    shape = Shape(item_count=3, width=4, layers=1, heads=1, history_length=4, dropout=0.0)
    network = networks.build("sasrec", shape, seed=0)
    bundle = tmp_path / "bundle"
    checkpoint.save(bundle, network, item_ids=["a", "b", "c"], config=SurrogateConfig(), lineage={})
    run = registry.log_night(config, "n1", Content(parameters={}, metrics={}))
    named = {"run_id": run, "bundle": bundle, "loader": "dealrec_core.surrogate.serving", "example": ["a"], "tags": {}}
    named["description"] = "Night n1"
    seen = []

    def check(served) -> None:
        seen.append(served.predict(pd.DataFrame({"history": [["a"]]}), params={"k": 3})["item_ids"][0])
        raise RegistryError("no")

    with pytest.raises(RegistryError, match="no"):
        registry.register(config, "surrogate", "n1", check=check, **named)
    assert sorted(seen[0]) == ["a", "b", "c"]
    assert MlflowClient(store).search_model_versions() == []
    assert registry.register(config, "surrogate", "n1", check=lambda _: None, **named) == "1"
