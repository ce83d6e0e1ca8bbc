import pytest

from dealrec_core.errors import SettingsError, SourceError
from dealrec_core.ingest.preview import preview
from dealrec_core.settings.sources import InteractionSource, SourcesConfig


def config(folder, **mapping) -> SourcesConfig:
    return SourcesConfig(root=str(folder), interactions=InteractionSource(files=["*.csv"], **mapping))


def test_rows_are_shown_as_they_would_land_and_as_they_would_not(tmp_path):
    lines = "a,x,1767225600,5\nb,y,soon,5\nc,z,1767225600,1\n"
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp,stars\n" + lines)
    [first] = preview(config(tmp_path, rating="stars", filter="rating >= 4"), files=3, rows=5)
    assert (first.records, first.filtered, first.quarantined) == (3, 1, 1)
    assert first.landing.select("row", "user_id", "item_id", "rating").rows() == [(1, "a", "x", 5.0)]
    [(row, column, reason, raw)] = first.bad.rows()
    assert (row, column, raw) == (2, "timestamp", "b,y,soon,5")
    assert reason.startswith("unreadable timestamp 'soon'; dealrec reads epoch seconds")
    assert [file.name for file in tmp_path.iterdir()] == ["log.csv"]


def test_a_wrong_mapping_is_told(tmp_path):
    (tmp_path / "log.csv").write_text("user,item_id,timestamp\n")
    with pytest.raises(SettingsError, match="no column 'user_id' in .* which has user, item_id, timestamp"):
        preview(config(tmp_path), files=1, rows=1)


def test_no_file_is_told(tmp_path):
    with pytest.raises(SourceError, match="no file in .* matches .*set sources.interactions.files"):
        preview(config(tmp_path), files=1, rows=1)
