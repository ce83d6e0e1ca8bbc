"""A small town: two nights on a small synthetic log, run once and looked at by many tests."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from prefect.testing.utilities import prefect_test_harness

from dealrec_core import settings
from dealrec_core.ingest import synthetic
from dealrec_core.lake import Lake
from dealrec_core.settings import Config
from flows.nightly import nightly
from tasks.nights import NightRequest, NightSummary

DEMO = "deployments/examples/demo.toml"
LOG = synthetic.SyntheticConfig(users=60, series=12, events_a_day=60, past_days=20)


TIGER = [
    'recommender.backend="tiger"',
    "tiger.width=16",
    "tiger.layers=1",
    "tiger.epochs=2",
    "tiger.pretraining_epochs=2",
]


@dataclass(frozen=True)
class Town:
    """A lake with its settings; days are counted from the start of the log."""

    overrides: list[str]

    @property
    def config(self) -> Config:
        return settings.load(DEMO, self.overrides)

    @property
    def lake(self) -> Lake:
        return Lake(self.config.lake.root)

    def request(self, day: int, *overrides: str) -> NightRequest:
        return NightRequest(day=LOG.start + timedelta(days=day), config=DEMO, overrides=[*self.overrides, *overrides])

    def write(self, day: int) -> None:
        synthetic.write_day(Path(self.config.sources.root), day, LOG)

    def night(self, day: int) -> NightSummary:
        return nightly(self.request(day))


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


def new_town(folder: Path) -> Town:
    small = ["surrogate.epochs=2", "surrogate.width=8", "language_model.steps=30", "language_model.width=32"]
    sizes = [
        "evaluation.users=40",
        "fine_tune.epochs=2",
        "fine_tune.learning_rate=1e-2",  # so that the small model moves, and some epoch is better than the start
        "coreset.ratio=0.1",
        "coreset.least=1",
        "coreset.method=dealrec",
        "gate.resamples=200",
    ]
    sizes += ['gate.first_beats=["popularity"]']  # a model of this size learns no more
    sizes += ["gate.metric=recall", "gate.depth=10", "gate.confidence=0"]  # and 40 users are no proof
    places = [
        f"run.home={folder}",
        f"lake.root={folder}/lake",
        f"sources.root={folder}/data",
        f"registry.tracking_uri=sqlite:///{folder}/mlflow.db",
        f"registry.artifacts={folder}/artifacts",
    ]
    return Town([*small, *sizes, *places])


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> tuple[Town, list[NightSummary]]:
    """A town with two nights behind it, and how they ended."""
    found = new_town(tmp_path_factory.mktemp("town"))
    summaries = []
    for day in (0, 1):
        found.write(day)
        summaries.append(found.night(day))
    shutil.copytree(found.lake.root, f"{found.lake.root}-after-two-nights")
    return found, summaries


@pytest.fixture(scope="session")
def two_nights(town: tuple[Town, list[NightSummary]]) -> Lake:
    """The town's lake as its two nights left it; tests add nights to the town's own."""
    return Lake(f"{town[0].lake.root}-after-two-nights")


@pytest.fixture(scope="session")
def tiger_town(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Town:
    """Two nights with TIGER: the second has a champion of an older bundle format, tunes on from it and learns the first coreset again."""
    place = new_town(tmp_path_factory.mktemp("tiger"))
    place = Town([*place.overrides, *TIGER])
    place.write(0)
    place.night(0)
    place.write(1)
    nightly(place.request(1, "tiger.tuning=lora"))
    return place
