import pickle
from datetime import UTC, date, datetime

import pytest

from dealrec_core.errors import DataError
from dealrec_core.lake import Lake, checkout, nights
from dealrec_core.lake.nights import Night, Snapshot
from dealrec_core.settings import Config
from dealrec_core.settings.sources import InteractionSource, SourcesConfig


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def opened(lake: Lake, day: int) -> Night:
    config = Config(sources=SourcesConfig(root="nowhere", interactions=InteractionSource(files=["*"])))
    return nights.open_night(
        config, date(2026, 1, day), lake=lake, champion=None, now=datetime(2026, 1, day, tzinfo=UTC)
    )


def reads(monkeypatch) -> list[str]:
    """Paths of the files that are read from here on."""
    paths: list[str] = []
    read = Lake.read_bytes

    def watched(lake: Lake, path: str) -> bytes:
        paths.append(path.rsplit("/", 1)[-1])
        return read(lake, path)

    monkeypatch.setattr(Lake, "read_bytes", watched)
    return paths


def test_a_record_is_read_once_and_one_that_comes_later_is_seen(lake, monkeypatch):
    night = opened(lake, 1)
    assert night.find("ingest") is None
    nights.reopen(night.name, lake).record(Snapshot(stage="ingest", rows=3))
    paths = reads(monkeypatch)
    assert [night.need("ingest").rows, night.need("ingest").rows] == [3, 3]
    assert [snapshot.stage for snapshot in night.snapshots()] == ["ingest"]
    assert paths == ["ingest.json"]


def test_a_night_knows_what_it_recorded_itself_without_reading_it(lake, monkeypatch):
    night = opened(lake, 1)
    night.record(Snapshot(stage="refit", rows=1))
    paths = reads(monkeypatch)
    assert night.need("refit").rows == 1
    assert paths == []
    assert lake.exists_path(f"nights/{night.name}/stages/refit.json")


def test_earlier_nights_are_those_opened_before_and_their_manifests_are_read_once(lake, monkeypatch):
    first, second, third = (opened(lake, day) for day in (1, 2, 3))
    paths = reads(monkeypatch)
    assert [night.name for night in second.earlier] == [first.name]
    assert second.earlier == second.earlier
    assert len(paths) == 3
    assert [night.name for night in third.earlier] == [first.name, second.name]
    assert first.earlier == []


def test_a_night_is_sent_to_another_process_without_what_it_has_read(lake):
    first, second = opened(lake, 1), opened(lake, 2)
    size = len(pickle.dumps(second))
    assert second.earlier == [first]
    second.record(Snapshot(stage="ingest", rows=3))
    copy = pickle.loads(pickle.dumps(second))
    assert len(pickle.dumps(second)) == size
    assert (copy, copy.need("ingest").rows) == (second, 3)


def test_a_stage_that_is_needed_and_has_not_finished_names_its_command(lake):
    with pytest.raises(DataError, match="stage 'refit' .* has not finished; run `dealrec evaluate --day 2026-01-01`"):
        opened(lake, 1).need("refit")


def test_another_program_is_another_night(monkeypatch, tmp_path):
    """The hash covers the sources of core, tasks and flows, by their names and their bytes."""
    names = {str(path.relative_to(checkout.ROOT)) for path in checkout.sources()}
    assert {"dealrec_core/lake/nights.py", "tasks/nights.py", "flows/nightly.py"} <= names
    hashes = []
    for name, text in (("a.py", "x = 1"), ("a.py", "x = 2"), ("b.py", "x = 2")):
        folder = tmp_path / str(len(hashes)) / "flows"
        folder.mkdir(parents=True)
        (folder / name).write_text(text)
        monkeypatch.setattr(checkout, "ROOT", folder.parent)
        hashes.append(nights.code_fingerprint.__wrapped__())
    assert len(set(hashes)) == 3


def test_outside_a_checkout_there_is_no_commit(monkeypatch, tmp_path):
    monkeypatch.setattr(checkout, "ROOT", tmp_path)
    assert checkout.git_commit() is None


def test_a_night_without_anybody_to_judge_a_model_is_finished_and_says_why(lake):
    night = opened(lake, 1)
    night.record(Snapshot(stage="ingest", facts={"empty": False}))
    night.record(Snapshot(stage="samples", facts={"test": 4}))
    assert (night.finished, night.cut_short) == (False, None)
    night.record(Snapshot(stage="samples", facts={"test": 0, nights.NOBODY: "no earlier user came back"}))
    assert (night.finished, night.cut_short) == (True, "no earlier user came back")
