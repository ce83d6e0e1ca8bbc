"""`run.engine = "ray"` on a real cluster, started on this machine: the same rows, bit for bit."""

from dataclasses import replace

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from prefect.settings import PREFECT_API_URL, temporary_settings

from dealrec_core.errors import SettingsError
from dealrec_core.ingest import interactions
from dealrec_core.lake.nights import nights
from dealrec_core.settings.run import RunConfig
from flows.ingest import ingest
from flows.retrain_surrogate import retrain_surrogate
from flows.score_samples import score_samples
from tasks import shards
from tests.flows.conftest import Town, new_town


def scored(town: Town) -> Town:
    town.write(0)
    for step in (ingest, retrain_surrogate, score_samples):
        step(town.request(0))
    return town


def rows(town: Town, table: str) -> pl.DataFrame:
    found = town.lake.scan(table).collect()
    return found.drop("at", "path", "stamp", "taken_at", strict=False).sort(pl.all())


@pytest.mark.services
@pytest.mark.timeout(600)
def test_files_and_effort_shards_on_ray_give_the_same_rows_as_here(prefect_server, tmp_path, monkeypatch):
    monkeypatch.setattr(interactions, "SHARD_FILES", 1)
    place = new_town(tmp_path / "here")
    here = replace(place, overrides=[*place.overrides, f"sources.root={tmp_path}/data", "effort.shard_samples=150"])
    there = replace(here, overrides=[*here.overrides, f"run.home={tmp_path}/there", f"lake.root={tmp_path}/there/lake"])
    scored(here)
    monkeypatch.setattr(shards, "STORE_BYTES", 100 * 2**20)
    scored(replace(there, overrides=[*there.overrides, "run.engine=ray"]))
    for table in ("interactions", "quarantine", "files", "samples", "efforts", "influences"):
        assert_frame_equal(rows(there, table), rows(here, table), check_exact=True)
    (one,), (other,) = nights(here.lake), nights(there.lake)
    assert one.name == other.name
    assert one.need("effort").facts == other.need("effort").facts
    assert one.need("effort").rows > 3 * 150


def test_ray_without_its_extra_names_the_setting_and_the_command(monkeypatch):
    monkeypatch.setattr(shards, "find_spec", lambda name: None)
    with (
        pytest.raises(SettingsError, match=r"run.engine = 'ray' needs the extra: pip install -e '.\[ray\]'"),
        shards.engine(RunConfig(engine="ray"), name="shards"),
    ):
        pass


def test_ray_without_a_server_that_its_workers_reach_is_refused():
    with (
        temporary_settings({PREFECT_API_URL: None}),
        pytest.raises(SettingsError, match="set PREFECT_API_URL"),
        shards.engine(RunConfig(engine="ray"), name="shards"),
    ):
        pass
