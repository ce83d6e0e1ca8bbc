from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from dealrec_core import schema
from dealrec_core.errors import DataError, LakeError
from dealrec_core.ingest import interactions
from dealrec_core.lake import Lake, erasure, upkeep
from dealrec_core.lake.store import SUMS
from dealrec_core.samples import sample_table
from dealrec_core.settings.sources import InteractionSource, SourcesConfig

NEW_YEAR, DAY = 1767225600, 86_400
USER = "someone-7421"
NOW = datetime(2026, 2, 1, tzinfo=UTC)


@pytest.fixture
def lake(tmp_path) -> Lake:
    """Two ingests, samples of each, scores, a coreset on disk: the user is everywhere, in old versions too."""
    made = Lake(str(tmp_path / "lake"))
    (tmp_path / "raw").mkdir()
    for day in (0, 1):
        lines = [
            f"{user},{item}{day},{NEW_YEAR + day * DAY + hour}"
            for user in (USER, "other")
            for hour, item in enumerate("abc")
        ]
        (tmp_path / "raw" / f"{day}.csv").write_text(
            "\n".join(["user_id,item_id,timestamp", *lines, f"{USER},x,soon"]) + "\n"
        )
        take(made)
        sample_table.update(made, log_version=made.version("interactions"), length=3)
    samples = made.scan("samples").collect()
    efforts = samples.select(
        pl.lit("night").alias("night"),
        "sample_id",
        pl.lit("c").alias("content"),
        pl.lit("m").alias("model"),
        effort=1.0,
    )
    made.append("efforts", efforts, schema=schema.EFFORTS)
    folder = Path(made.root) / "emitted" / "coresets" / "night"
    folder.mkdir(parents=True)
    samples.write_parquet(folder / "samples.parquet")
    (folder / "alpaca.jsonl").write_text("{}")
    (folder / SUMS).write_text("{}")
    return made


def take(lake: Lake) -> interactions.IngestReport:
    source = InteractionSource(files=["*.csv"])
    config = SourcesConfig(root=str(Path(lake.root).parent / "raw"), interactions=source, max_bad_fraction=1)
    return interactions.ingest(lake, config, through=date(2026, 1, 9), partition="day")


def bytes_with(lake: Lake, text: str) -> list[str]:
    """Files below the root that hold the text anywhere, Parquet unpacked."""
    paths = []
    for path in Path(lake.root).rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            if path.suffix == ".parquet":
                content += str(pl.read_parquet(path, hive_partitioning=False).to_dicts()).encode()
            if text.encode() in content:
                paths.append(str(path.relative_to(lake.root)))
    return paths


def test_the_user_is_gone_from_every_table_and_the_others_stay(lake):
    before = {table: lake.scan(table).collect().height for table in ("interactions", "samples", "efforts")}
    report = erasure.erase(lake, USER, at=NOW, now=False)
    assert report.rows == {"interactions": 6, "samples": 5, "efforts": 5, "quarantine": 2}
    for table, rows in before.items():
        assert lake.scan(table).collect().height == rows - report.rows[table]
    assert set(lake.scan("samples").collect()["user_id"]) == {"other"}
    assert lake.scan("quarantine").collect()["raw"].to_list() == ["", ""]


def test_with_now_no_byte_of_the_user_remains_in_any_version(lake):
    assert len(bytes_with(lake, USER)) > 3
    report = erasure.erase(lake, USER, at=NOW, now=True)
    assert (report.remaining, bytes_with(lake, USER)) == ([], [])
    assert report.withdrawn == ["emitted/coresets/night"]
    assert not lake.list_paths("emitted/coresets/night")


def test_without_now_the_report_names_the_files_that_remain_and_upkeep_removes_them_though_versions_are_pinned(lake):
    report = erasure.erase(lake, USER, at=NOW, now=False)
    assert {path.split("/")[0] for path in report.remaining} == {"interactions", "samples", "efforts", "quarantine"}
    first = erasure.forgotten(lake)
    for table in ("interactions", "samples", "efforts", "quarantine"):
        pins = {version for version in range(lake.version(table) + 1) if version >= first[table]}
        upkeep.vacuum(lake, table, keep=pins, retention_hours=0)
    assert bytes_with(lake, USER) == []


def test_the_user_does_not_come_back_with_a_raw_file_and_the_ledger_says_filtered(lake):
    erasure.erase(lake, USER, at=NOW, now=True)
    (Path(lake.root).parent / "raw" / "late.csv").write_text(
        f"user_id,item_id,timestamp\n{USER},z,{NEW_YEAR}\nother,z,{NEW_YEAR}\n"
    )
    report = take(lake)
    assert (report.rows, report.inserted, report.filtered) == (2, 1, 1)
    assert bytes_with(lake, USER) == []


def test_samples_made_afterwards_are_those_of_the_log_without_the_user(lake):
    erasure.erase(lake, USER, at=NOW, now=True)
    update = sample_table.update(lake, log_version=lake.version("interactions"), length=3)
    assert set(lake.scan("samples", update.version).collect()["user_id"]) == {"other"}


@pytest.mark.parametrize("step", ["_remove", "_sample_ids", "_withdraw"])
def test_an_erasure_that_was_killed_is_run_again(lake, step, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(erasure, step, _die)
        with pytest.raises(KeyboardInterrupt):
            erasure.erase(lake, USER, at=NOW, now=True)
    erasure.erase(lake, USER, at=NOW, now=True)
    assert bytes_with(lake, USER) == []


def test_files_that_killed_writers_left_torn_stop_no_erasure_and_are_named_until_they_are_removed(lake):
    whole = upkeep.data_files(lake, "samples")[0]
    half = lake.read_bytes(whole)[:-40]
    orphans = [whole.replace(".parquet", "0.parquet"), "interactions/orphan.parquet", "efforts/orphan.parquet#1"]
    for path in orphans:
        lake.write_bytes(path, half)
    report = erasure.erase(lake, USER, at=NOW, now=False)
    assert report.rows == {"interactions": 6, "samples": 5, "efforts": 5, "quarantine": 2}
    assert set(orphans) <= set(report.remaining)
    assert erasure.erase(lake, USER, at=NOW, now=True).remaining == bytes_with(lake, USER) == []


def test_a_torn_file_that_a_table_needs_is_told_and_nothing_counts_as_removed(lake):
    path = lake.open("interactions").file_uris()[0]
    Path(path).write_bytes(Path(path).read_bytes()[:-40])
    with pytest.raises(
        LakeError, match=r"interactions/.* of version \d+ in .* has .* bytes of .*; run `dealrec doctor`"
    ):
        erasure.erase(lake, USER, at=NOW, now=True)


def test_coresets_whose_emission_or_withdrawal_was_killed_are_withdrawn_and_those_of_others_stay(lake):
    others = lake.scan("samples").collect().filter(user_id="other")
    for folder, names in {"killed": ["alpaca.jsonl"], "others": ["alpaca.jsonl", SUMS]}.items():
        path = Path(lake.root) / erasure.EMITTED / folder
        path.mkdir()
        for name in names:
            (path / name).write_text("{}")
    others.write_parquet(path / "samples.parquet")
    (path / f".card.md.{'0' * 32}").write_text("a writer was killed")
    report = erasure.erase(lake, USER, at=NOW, now=False)
    assert set(report.withdrawn) == {"emitted/coresets/night", "emitted/coresets/killed"}
    names = ["alpaca.jsonl", "samples.parquet", SUMS]
    assert lake.list_paths(erasure.EMITTED) == [f"{erasure.EMITTED}/others/{name}" for name in names]


def test_only_words_of_a_raw_text_are_the_user(lake):
    report = erasure.erase(lake, "someone", at=NOW, now=False)
    assert report.rows == {"quarantine": 2}  # someone-7421 holds the word; a blank too many harms no one


def test_an_unknown_user_changes_no_table_and_an_empty_id_is_an_error(lake):
    versions = {table: lake.version(table) for table in ("interactions", "samples", "efforts", "quarantine")}
    assert erasure.erase(lake, "nobody", at=NOW, now=False).rows == {}
    assert versions == {table: lake.version(table) for table in versions}
    with pytest.raises(DataError, match="the user id is empty"):
        erasure.erase(lake, "", at=NOW, now=False)


def _die(*_: object) -> None:
    raise KeyboardInterrupt
