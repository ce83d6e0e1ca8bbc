import csv
import gzip
import hashlib
import itertools
import json
from collections import Counter, defaultdict
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
import zstandard

from dealrec_core import schema
from dealrec_core.errors import DataError
from dealrec_core.evaluation import metrics
from dealrec_core.ingest import synthetic
from dealrec_core.recommenders import baselines
from dealrec_core.samples import split

SMALL = synthetic.SyntheticConfig(users=50, series=12, events_a_day=60, past_days=10)
Row = tuple[str | None, str | None, int | None, str | None]


def raw_rows(path: Path) -> list[Row]:
    """User, item, rating and the timestamp as it stands, of every row that is a record at all."""
    names = synthetic.COLUMNS
    if path.name.endswith(".parquet"):
        records = pl.read_parquet(path).to_dicts()
    elif path.name.endswith(".jsonl.zst"):
        text = zstandard.ZstdDecompressor().stream_reader(path.open("rb")).read().decode()
        records = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
    else:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
        records = list(csv.DictReader(text.splitlines()))
    return [tuple(record.get(name) for name in names) for record in records]


def good_rows(path: Path) -> list[tuple[str, str, int, datetime]]:
    """The rows that a reader can use; times are distinguished by their form."""
    rows = []
    for user, item, rating, time in raw_rows(path):
        if user and item and time not in (None, "yesterday"):
            text = str(time)
            moment = datetime.fromtimestamp(int(text), UTC) if text.isdigit() else datetime.fromisoformat(text)
            rows.append((user, item, int(rating), moment))
    return rows


def row_of(event: synthetic.Event) -> tuple[str, str, int, datetime]:
    return f"u{event.user:05d}", synthetic.item_id(event.series, event.part), event.rating, event.time


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def log_files(folder: Path, days: int) -> list[Path]:
    return [synthetic.write_day(folder, day, SMALL)[0] for day in range(days)]


@pytest.mark.parametrize("day", [0, 1, 2, 3])
def test_a_day_has_the_same_bytes_whatever_was_written_before_it(tmp_path, day):
    for earlier in range(day + 1):
        together = synthetic.write_day(tmp_path / "together", earlier, SMALL)
    alone = synthetic.write_day(tmp_path / "alone", day, SMALL)
    assert [path.read_bytes() for path in together] == [path.read_bytes() for path in alone]


def test_another_seed_gives_another_log(tmp_path):
    other = SMALL.model_copy(update={"seed": 1})
    first, second = synthetic.write_day(tmp_path / "a", 0, SMALL)[0], synthetic.write_day(tmp_path / "b", 0, other)[0]
    assert set(good_rows(first)).isdisjoint(good_rows(second))


def test_a_later_day_only_adds_files(tmp_path):
    for day in range(5):
        before = digests(tmp_path)
        written = {str(path.relative_to(tmp_path)) for path in synthetic.write_day(tmp_path, day, SMALL)}
        after = digests(tmp_path)
        assert written.isdisjoint(before)
        assert {name: after[name] for name in before} == before
        assert set(after) == set(before) | written


def test_the_format_changes_with_the_day(tmp_path):
    names = [path.name for path in log_files(tmp_path, 5)]
    assert names == [
        "2026-01-01.csv",
        "2026-01-02.csv.gz",
        "2026-01-03.jsonl.zst",
        "2026-01-04.parquet",
        "2026-01-05.csv",
    ]


def test_every_event_is_written_on_its_day_or_when_late_a_day_after(tmp_path):
    busy = SMALL.model_copy(update={"events_a_day": 400})
    days = synthetic.events(4, busy)[-5:]
    files = [synthetic.write_day(tmp_path, day, busy)[0] for day in range(5)]
    for day in range(1, 5):
        punctual = {row_of(event) for event in days[day] if not event.late}
        late = {row_of(event) for event in days[day - 1] if event.late}
        assert set(good_rows(files[day])) == punctual | late
    assert sum(event.late for day in days for event in day) > 5


def test_day_0_holds_the_whole_past_but_for_what_is_late(tmp_path):
    (file,) = log_files(tmp_path, 1)
    *before, last = synthetic.events(0, SMALL)
    expected = {row_of(event) for day in before for event in day} | {row_of(event) for event in last if not event.late}
    assert set(good_rows(file)) == expected
    assert len(before) + 1 == SMALL.past_days
    assert {row[3].date() for row in expected} == {
        date.fromordinal(date(2026, 1, 1).toordinal() - n) for n in range(10)
    }


def test_every_file_has_doubled_rows_and_bad_ones(tmp_path):
    for file in log_files(tmp_path, 4):
        good, every = good_rows(file), raw_rows(file)
        assert len(good) - len(set(good)) == synthetic.DOUBLED_ROWS
        cut_off = 1 if file.suffix == ".zst" else 0  # a line that is no record
        assert len(every) + cut_off - len(good) == synthetic.BAD_ROWS
        assert sum(not user for user, *_ in every) == 1
        assert sum(time in (None, "yesterday") for *_, time in every) == 1


def test_times_are_epoch_seconds_and_iso_with_zone_in_jsonl(tmp_path):
    plain, _, lines, _ = log_files(tmp_path, 4)
    assert all(str(time).isdigit() for *_, time in raw_rows(plain) if time != "yesterday")
    assert all(str(time).endswith("+00:00") for *_, time in raw_rows(lines) if time != "yesterday")


def test_ratings_are_whole_numbers_from_1_to_5():
    ratings = Counter(event.rating for day in synthetic.events(0, synthetic.SyntheticConfig()) for event in day)
    assert set(ratings) == {1, 2, 3, 4, 5}


def test_the_demo_log_has_the_size_of_a_demo():
    config = synthetic.SyntheticConfig()
    days = synthetic.events(3, config)
    past = [event for day in days[:60] for event in day]
    assert len(past) == pytest.approx(12_000, rel=0.01)
    assert len({event.user for event in past}) == 400
    assert synthetic.series_count(0, config) * config.parts == 360
    assert [len(day) for day in days[60:]] == [270, 276, 281]  # 265 for 400 users: 408, 416, 424


def test_every_day_brings_new_users_and_new_items(tmp_path):
    days = synthetic.events(5, SMALL)
    earlier_users = {event.user for day in days[:-5] for event in day}
    for number, today in enumerate(days[-5:], start=1):
        users = {event.user for event in today}
        assert set(range(synthetic.user_count(number - 1, SMALL), synthetic.user_count(number, SMALL))) <= users
        assert users - earlier_users
        earlier_users |= users
        items = synthetic.write_day(tmp_path, number, SMALL)[1].read_text().splitlines()
        assert len(items) == 1 + SMALL.parts


def test_no_item_is_taken_before_it_is_in_an_items_file(tmp_path):
    catalogue: set[str] = set()
    for day in range(6):
        log, items = synthetic.write_day(tmp_path, day, SMALL)
        catalogue |= {line.split(",")[0] for line in items.read_text().splitlines()[1:]}
        assert {row[1] for row in good_rows(log)} <= catalogue


def test_items_have_titles_and_categories(tmp_path):
    lines = synthetic.write_day(tmp_path, 0, SMALL)[1].read_text().splitlines()
    assert lines[:3] == [
        "itemId,title,categories",
        "i00001,Crimson Harbor 1,Games|Racing",
        "i00002,Crimson Harbor 2,Games|Racing",
    ]
    assert lines[6] == "i00101,Silent Kingdom 1,Games|Puzzle"


def test_no_two_series_share_a_title():
    titles = {synthetic.title(series, 0) for series in range(synthetic.MOST_SERIES)}
    assert len(titles) == synthetic.MOST_SERIES == 144


def test_the_catalogue_stands_still_when_the_names_are_used_up(tmp_path):
    full = SMALL.model_copy(update={"series": synthetic.MOST_SERIES})
    assert synthetic.write_day(tmp_path, 1, full)[1].read_text() == "itemId,title,categories\n"


def test_the_next_part_follows_as_often_as_was_asked_for():
    config = synthetic.SyntheticConfig()
    last: dict[int, synthetic.Event] = {}
    followed = []
    for event in (event for day in synthetic.events(0, config) for event in day):
        before = last.get(event.user)
        if before is not None and before.part + 1 < config.parts:
            followed.append((event.series, event.part) == (before.series, before.part + 1))
        last[event.user] = event
    # 10,000 draws have a standard deviation of sqrt(0.5 · 0.5 / 10,000) = 0.005
    assert sum(followed) / len(followed) == pytest.approx(config.next_part, abs=0.02)


def test_a_day_before_day_0_is_an_error_with_the_next_step(tmp_path):
    with pytest.raises(DataError, match="day -1 of the synthetic log is in its past; write day 0"):
        synthetic.write_day(tmp_path, -1, SMALL)


class Markov:
    """What followed the last item most often, then what is popular."""

    def __init__(self, log: pl.DataFrame) -> None:
        histories = log.sort(schema.USER_ID, schema.TIMESTAMP, schema.EVENT_ID).group_by(schema.USER_ID)
        self.popular = baselines.popularity(log).item_ids
        self.followers: dict[str, Counter[str]] = defaultdict(Counter)
        for items in histories.agg(pl.col(schema.ITEM_ID))[schema.ITEM_ID].to_list():
            for item, following in itertools.pairwise(items):
                self.followers[item][following] += 1

    def recommend(self, histories: list[list[str]], k: int) -> list[list[str]]:
        lists = []
        for history in histories:
            counts = self.followers[history[-1]]
            best = sorted(counts, key=lambda item: (-counts[item], item))
            lists.append([*best, *(item for item in self.popular if item not in counts)][:k])
        return lists


def as_interactions(days: list[list[synthetic.Event]]) -> pl.DataFrame:
    rows = [row_of(event) for day in days for event in day]
    columns = [schema.USER_ID, schema.ITEM_ID, schema.RATING, schema.TIMESTAMP]
    log = pl.DataFrame(rows, schema=columns, orient="row").cast({schema.TIMESTAMP: schema.UTC_TIME})
    return log.with_columns(pl.int_range(pl.len()).cast(pl.String).str.zfill(6).alias(schema.EVENT_ID))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_order_says_more_than_recent_popularity_and_that_more_than_popularity(seed):
    log = as_interactions(synthetic.events(0, synthetic.SyntheticConfig(seed=seed)))
    bounds = split.boundaries(log.lazy(), split.SamplesConfig(test_fraction=0.1), not_before=None)
    cases = split.cases(log.lazy(), bounds, history_length=10, users=None, seed=0)
    past = log.filter(pl.col(schema.TIMESTAMP) < bounds.test_start)
    recent = past.filter(pl.col(schema.TIMESTAMP) >= bounds.validation_start)
    rivals = (Markov(past), baselines.popularity(recent), baselines.popularity(past))
    histories, targets = cases[schema.HISTORY].to_list(), cases["targets"].to_list()
    markov, newer, older = (metrics.recall(rival.recommend(histories, 10), targets, k=10).mean() for rival in rivals)
    assert markov > 1.5 * newer > 1.5 * 1.5 * older
