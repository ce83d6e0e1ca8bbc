from datetime import date
from pathlib import Path

import pytest

from dealrec_core import settings
from dealrec_core.ingest import interactions, item_files, synthetic
from dealrec_core.lake import Lake

SHIPPED = ["deployments/pipeline.toml", *map(str, sorted(Path("deployments/examples").glob("*.toml")))]


@pytest.mark.parametrize("path", SHIPPED)
def test_every_shipped_settings_file_loads(path):
    assert settings.load(path).sources.interactions.files


def test_only_paths_below_the_home_folder_are_written_by_the_demo():
    config = settings.load("deployments/examples/demo.toml")
    places = [config.sources.root, config.lake.root, config.registry.artifacts, config.registry.tracking_uri]
    assert all(f"{config.run.home}/" in str(place) for place in places)


def test_the_demo_settings_take_every_good_row_of_four_days_once(tmp_path):
    log = synthetic.SyntheticConfig(users=50, series=12, events_a_day=60, past_days=10)
    config = settings.load("deployments/examples/demo.toml", [f"sources.root={tmp_path}/data"])
    lake, days = Lake(str(tmp_path / "lake")), synthetic.events(3, log)
    for day in range(4):
        synthetic.write_day(tmp_path / "data", day, log)
        through = date.fromordinal(log.start.toordinal() + day)
        report = interactions.ingest(lake, config.sources, through=through, partition="day")
        assert (report.duplicates, report.quarantined) == (synthetic.DOUBLED_ROWS, synthetic.BAD_ROWS)
        items = item_files.ingest_items(lake, config.sources)
        assert items.inserted == (60 if day == 0 else 5)  # 12 series of 5 parts, then one more a day
    written = {(event.user, event.series, event.part, event.time) for day in days[:-1] for event in day}
    written |= {(event.user, event.series, event.part, event.time) for event in days[-1] if not event.late}
    taken = lake.scan("interactions").collect()
    assert set(zip(taken["user_id"], taken["item_id"], taken["timestamp"], strict=True)) == {
        (f"u{user:05d}", synthetic.item_id(series, part), time) for user, series, part, time in written
    }
