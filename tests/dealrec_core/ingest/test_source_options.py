from datetime import date

import pytest
from pydantic import ValidationError

from dealrec_core.ingest import interactions, item_files
from dealrec_core.lake import Lake
from dealrec_core.settings.sources import InteractionSource, ItemSource, SourcesConfig


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def test_event_weights_are_the_ratings_and_rows_of_other_types_are_left_out(lake, tmp_path):
    rows = ["a,x,2026-01-01,view", "a,y,2026-01-01,buy", "b,x,2026-01-01,ignore"]
    (tmp_path / "log.csv").write_text("\n".join(["u,i,t,kind", *rows]) + "\n")
    source = InteractionSource(
        files=["log.csv"],
        user_id="u",
        item_id="i",
        timestamp="t",
        event_type="kind",
        event_weights={"view": 1, "buy": 5},
    )
    sources = SourcesConfig(root=str(tmp_path), interactions=source)
    interactions.ingest(lake, sources, through=date(2026, 1, 1), partition="day")
    log = lake.scan("interactions").collect().sort("item_id")
    assert log.select("item_id", "rating").rows() == [("x", 1.0), ("y", 5.0)]


def test_event_weights_without_a_column_of_types_are_refused():
    with pytest.raises(ValidationError, match="event_weights needs event_type"):
        InteractionSource(files=["*"], event_weights={"view": 1})


def test_items_without_a_header_line_have_their_own_names_delimiter_and_separator(lake, tmp_path):
    (tmp_path / "items.csv").write_text("1;Chess;Board / Classic\n2;Go;Board\n")
    source = ItemSource(
        files=["items.csv"],
        delimiter=";",
        header=["id", "name", "genres"],
        item_id="id",
        title="name",
        categories="genres",
        categories_separator=" / ",
    )
    sources = SourcesConfig(root=str(tmp_path), interactions=InteractionSource(files=["log"]), items=source)
    assert item_files.ingest_items(lake, sources).inserted == 2
    items = lake.scan("items").collect().sort("item_id")
    assert items["categories"].to_list() == [["Board", "Classic"], ["Board"]]
