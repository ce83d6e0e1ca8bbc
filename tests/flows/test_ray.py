"""`run.engine = "ray"` on a real cluster, started on this machine: the same rows, bit for bit.

Effort shards on Ray are compared by tests/deployments/test_big_night.py.
"""

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
from tasks import shards
from tests.flows.conftest import Town, new_town


def rows(town: Town, table: str) -> pl.DataFrame:
    found = town.lake.scan(table).collect()
    return found.drop("at", "path", "stamp", "taken_at", strict=False).sort(pl.all())


@pytest.mark.services
@pytest.mark.timeout(600)
def test_files_on_ray_give_the_same_rows_as_here(prefect_server, tmp_path, monkeypatch):
    monkeypatch.setattr(interactions, "SHARD_FILES", 1)
    place = new_town(tmp_path / "here")
    here = replace(place, overrides=[*place.overrides, f"sources.root={tmp_path}/data"])
    there = replace(here, overrides=[*here.overrides, f"run.home={tmp_path}/there", f"lake.root={tmp_path}/there/lake"])
    here.write(0)
    ingest(here.request(0))
    monkeypatch.setattr(shards, "STORE_BYTES", 100 * 2**20)
    ingest(there.request(0, "run.engine=ray"))
    for table in ("interactions", "quarantine", "files", "samples"):
        assert_frame_equal(rows(there, table), rows(here, table), check_exact=True)
    (one,), (other,) = nights(here.lake), nights(there.lake)
    assert one.name == other.name


def test_ray_without_its_extra_names_the_setting_and_the_command(monkeypatch):
    monkeypatch.setattr(shards, "find_spec", lambda name: None)
    with (
        pytest.raises(SettingsError, match=r"run.engine = 'ray' needs an extra; run pip install -e '.\[ray\]'"),
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
