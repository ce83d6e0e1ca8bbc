"""Logs in the shape of public bug reports: every case of shared/cases, with the right value of its README."""

from datetime import UTC, date, datetime
from pathlib import Path
from shutil import copytree

import polars as pl
import pytest

from dealrec_core import settings
from dealrec_core.errors import DataError
from dealrec_core.ingest import again, interactions, item_files
from dealrec_core.lake import Lake
from dealrec_core.samples.histories import Histories
from dealrec_core.settings import Config

pytestmark = pytest.mark.data

OTHERS = {"base-model-missing", "experiment-deleted", "gpt2-c_attn", "registered-model-deleted"}
"""Cases that are no logs."""


class Case:
    """A copy of a case: its data can be changed, and its lake is new."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lake = Lake(str(folder / "lake"))

    def config(self, *overrides: str) -> Config:
        places = [f"sources.root={self.folder}/data", f"lake.root={self.folder}/lake"]
        return settings.load(self.folder / "pipeline.toml", [*places, *overrides])

    def ingest(self, *overrides: str, day: date = date(2027, 1, 1)) -> interactions.IngestReport:
        report = interactions.ingest(self.lake, self.config(*overrides).sources, through=day, partition="day")
        parts = (report.earlier, report.inserted, report.duplicates, report.quarantined, report.filtered)
        assert report.rows == sum(parts) + report.postponed
        return report

    def correct(self, pattern: str, *overrides: str) -> again.Correction:
        place = {"through": date(2027, 1, 1), "partition": "day"}
        return again.again(self.lake, self.config(*overrides).sources, [pattern], **place)

    def items(self, *overrides: str) -> pl.DataFrame:
        item_files.ingest_items(self.lake, self.config(*overrides).sources)
        return self.lake.scan("items").collect().sort("row")

    def log(self) -> pl.DataFrame:
        return self.lake.scan("interactions").collect().sort("file", "row")

    def column(self, name: str) -> list:
        return self.log()[name].to_list()


@pytest.fixture
def case(request: pytest.FixtureRequest, data_root: Path, tmp_path: Path) -> Case:
    """The case that the test's name or mark says."""
    source = data_root.parent / "cases" / request.param
    if not source.is_dir():
        pytest.skip(f"no case {source}")
    return Case(Path(copytree(source, tmp_path / "case")))


def of(name: str):
    return pytest.mark.parametrize("case", [name], indirect=True, ids=[name])


def time(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_every_case_is_here(data_root):
    folder = data_root.parent / "cases"
    if not folder.is_dir():
        pytest.skip("no cases")
    tested = {mark.args[1][0] for test in globals().values() for mark in getattr(test, "pytestmark", [])}
    assert {path.name for path in folder.iterdir()} - OTHERS == tested


@of("renamed-column-one-of-three-files")
def test_all_rows_of_a_file_without_a_column_are_bad(case):
    with pytest.raises(DataError, match=r"2,000 of 6,000 rows are bad.*no column 'item_id' in .*d3.csv'"):
        case.ingest()
    assert not case.lake.exists("interactions")
    report = case.ingest("sources.max_bad_fraction=0.5")
    assert (report.rows, report.inserted, report.quarantined) == (6000, 4000, 2000)


@of("firehose-concatenated-json")
def test_objects_without_line_ends_are_rows(case):
    assert case.ingest().inserted == 200


@of("tsv-quotes-swallow")
def test_quotes_of_a_log_without_quoting_swallow_no_rows(case):
    assert case.ingest().inserted == 120
    assert case.column("row") == list(range(1, 121))


@of("lastfm1k-quotes")
def test_quotes_in_names_are_letters(case):
    assert case.ingest().inserted == 6
    names = ["Artist One", "Artist One", "Artist Two", '"Weird" Name', '12" Mix', "Artist Four"]
    assert case.column("item_id") == names


@of("kuairec-yyyymmdd")
def test_a_calendar_day_as_a_number_is_that_day(case):
    case.ingest()
    assert case.column("timestamp") == [time("2020-07-05"), time("2020-07-06"), time("2020-12-31")]


@of("merlin-item-list")
def test_a_list_is_no_item(case):
    with pytest.raises(DataError, match=r"2 of 2 rows are bad.*a list where one id is expected: '\[11,12,13\]'"):
        case.ingest()


@of("mind-behaviors")
def test_impressions_are_no_item_and_american_times_need_a_form(case):
    with pytest.raises(DataError, match="a list where one id is expected: 'N55689-1 N35729-0'"):
        case.ingest()
    with pytest.raises(DataError, match="'11/12/2019 6:11:30 PM': day or month may come first; set .*timestamp_format"):
        case.ingest("sources.interactions.item_id=history")
    case.ingest("sources.interactions.item_id=imp", "sources.interactions.timestamp_format=%m/%d/%Y %I:%M:%S %p")
    assert case.column("timestamp") == [time("2019-11-11 09:05:58"), time("2019-11-12 18:11:30")]


@of("hive-null-user")
def test_null_words_are_no_users(case):
    with pytest.raises(DataError, match=r"20 of 80 rows.*no user id: '\\N' is one of null_words"):
        case.ingest()
    report = case.ingest("sources.max_bad_fraction=0.5")
    assert (report.inserted, report.quarantined) == (60, 20)


@of("pandas-float-ids")
def test_whole_numbers_with_a_fraction_meet_those_without(case):
    case.ingest()
    items = case.items()
    assert set(items["item_id"]) == {"10", "11", "12"}
    assert set(case.column("item_id")) == {"10", "11"}
    assert not any(user.endswith(".0") for user in case.column("user_id"))


@of("ml1m-latin1-titles")
def test_latin_1_titles_have_their_accents(case):
    case.ingest()
    titles = case.items()["title"]
    assert len(titles) == 40
    assert titles.str.contains("é").any()
    assert not titles.str.contains("\ufffd").any()


@of("utf16-excel")
def test_utf_16_is_read(case):
    assert case.ingest().inserted == 1


@of("excel-sep-line")
def test_the_line_that_names_the_delimiter_is_no_header(case):
    case.ingest()
    assert case.column("timestamp") == [time("2024-02-01 10:00"), time("2024-02-02 10:00")]
    assert case.column("item_id") == ["007", "008"]


@of("spark-csv-backslash")
def test_backslashes_before_quotes_are_told(case):
    case.ingest()
    titles = dict(case.items().select("item_id", "title").iter_rows())
    assert len(titles) == 12
    assert titles["i4"] == 'The "Best" Game, 4'


@of("spark-success-marker")
def test_marker_files_are_no_data(case):
    assert len(case.ingest().files) == 1
    assert len(case.log()) == 1


@of("parquet-gzip-name")
def test_parquet_is_told_from_its_content(case):
    assert case.ingest().inserted == 1


@of("no-extension-firehose")
def test_a_name_without_an_ending_is_no_matter(case):
    assert case.ingest().inserted == 2


@of("recbole-inter")
def test_recbole_files_are_read(case):
    case.ingest()
    assert case.column("item_id") == ["0001388703", "0000000017", "0001388703"]
    assert [moment.timestamp() for moment in case.column("timestamp")] == [1387670400, 1387670500.25, 1387756800]


@of("parquet-uuid-ids")
def test_uuids_have_their_usual_form(case):
    case.ingest()
    assert case.column("user_id")[0] == "00000000-0000-0000-ab54-a98ceb1f0ad2"


@of("mongo-extended-json")
def test_dates_of_mongodb_are_read(case):
    case.ingest()
    assert case.column("timestamp") == [time("2024-01-01"), time("2024-01-01 00:01")]


@of("json-bool-rating")
def test_true_and_false_are_1_and_0(case):
    case.ingest()
    assert case.column("rating") == [1, 0]


@of("amazon2014-nested-categories")
def test_lists_of_lists_are_flattened(case):
    assert case.items()["categories"].to_list() == [["Video Games", "PC", "Toys"]] * 3


@of("amazon2014-loose-json")
def test_python_dictionaries_are_read(case):
    items = case.items()
    assert items["title"].to_list() == ["Bob's Game 0", "Bob's Game 1", "Bob's Game 2"]
    assert items["categories"].to_list() == [["Video Games", "PC"]] * 3


@of("rees46-utc-suffix")
def test_a_time_that_names_utc_is_read(case):
    case.ingest()
    assert case.column("timestamp") == [time(f"2019-11-01 00:00:0{second}") for second in (0, 3, 4)]
    assert case.column("rating") == [1, 3, 5]


@of("partial-last-line")
def test_a_last_line_without_its_end_waits(case):
    first = case.ingest(day=date(2024, 1, 2))
    assert (first.inserted, first.postponed) == (40, 1)
    with (case.folder / "data" / "live.csv").open("a") as file:
        file.write("7999\nu100,item100,1704068000\n")
    assert case.ingest(day=date(2024, 1, 3)).inserted == 2
    assert len(case.log()) == 42
    assert case.log().filter(user_id="u99")["timestamp"].to_list() == [time("2024-01-01 00:13:19")]


@of("filter-or-weights-corrected")
def test_the_first_rows_of_a_lake_are_not_all_turned_down(case):
    with pytest.raises(DataError, match="event_weights turns down all 60 rows; the types are buy; nothing was written"):
        case.ingest(day=date(2024, 1, 2))
    assert case.ingest("sources.interactions.event_weights={buy=5}", day=date(2024, 1, 3)).inserted == 60


@of("filter-or-weights-corrected")
def test_a_file_is_taken_again_after_a_filter_was_corrected(case):
    case.ingest("sources.interactions.event_weights={buy=5}", "sources.interactions.filter=item_id = 'i1'")
    case.correct("**", "sources.interactions.event_weights={buy=5}")
    assert len(case.log()) == 60


@of("corrected-day-file")
def test_a_corrected_day_file_takes_the_place_of_the_one_before(case):
    case.ingest()
    (case.folder / "fixed.csv").replace(case.folder / "data" / "day1.csv")
    case.correct("day1.csv")
    fixed = pl.read_csv(case.folder / "data" / "day1.csv")
    assert len(case.log()) == len(fixed) == 35
    assert case.column("item_id") == fixed[case.config().sources.interactions.item_id].cast(pl.String).to_list()
    assert 99 in case.column("rating")


@of("same-day-order")
def test_events_of_one_moment_keep_the_order_of_their_file(case):
    case.ingest()
    log = case.log()
    samples = Histories(20).samples(log.filter(user_id="u0"))
    moment = log.filter((pl.col("user_id") == "u0") & (pl.col("timestamp").dt.date() == date(2025, 12, 30)))
    assert moment["item_id"].to_list() == ["i2", "i9", "i16"]
    last = samples.filter(timestamp=moment["timestamp"][0], item_id="i16")
    assert last["history"][0].to_list()[-2:] == ["i2", "i9"]
