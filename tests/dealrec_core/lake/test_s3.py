"""Raw files, lake, checkpoints and coresets in a bucket: on a mock server, and on Ceph's gateway, which keeps S3's promises."""

import gzip
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import polars as pl
import pytest
import s3fs

from dealrec_core import schema
from dealrec_core.errors import LakeError, SourceError
from dealrec_core.ingest import interactions, sources
from dealrec_core.lake import Lake, upkeep
from dealrec_core.lake.store import fsspec_options
from dealrec_core.settings.sources import InteractionSource, SourcesConfig
from tasks import storage
from tests import ceph, lossy

pytestmark = pytest.mark.services
NEW_YEAR = 1767225600  # 2026-01-01T00:00:00Z


@pytest.fixture(scope="module")
def mock_server() -> Iterator[str]:
    """In a process of its own: some calls of the table library hold the interpreter while they wait for the store."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
        process.kill()


@pytest.fixture(scope="module")
def real_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    reason = ceph.missing()
    if reason:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    with ceph.serve(tmp_path_factory.mktemp("ceph")) as address:
        yield address


def new_bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": ceph.KEY,
        "AWS_SECRET_ACCESS_KEY": ceph.SECRET,
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"dealrec-{uuid.uuid4().hex}"
    s3fs.S3FileSystem(endpoint_url=server).mkdir(name)
    return f"s3://{name}"


@pytest.fixture(params=["mock", "ceph"])
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    return new_bucket(request.getfixturevalue("mock_server" if request.param == "mock" else "real_server"), monkeypatch)


@pytest.fixture
def real_bucket(real_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    return new_bucket(real_server, monkeypatch)


def config(bucket: str) -> SourcesConfig:
    return SourcesConfig(
        root=f"{bucket}/raw", interactions=InteractionSource(files=["**/*.csv*"]), max_bad_fraction=0.5
    )


def take(bucket: str) -> interactions.IngestReport:
    return interactions.ingest(Lake(f"{bucket}/lake"), config(bucket), through=date(2026, 1, 9), partition="day")


def write(bucket: str, name: str, content: bytes) -> None:
    s3fs.S3FileSystem().pipe_file(f"{bucket}/raw/{name}", content)


def lines(*rows: str) -> bytes:
    return ("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n").encode()


def test_a_log_in_a_bucket_lands_once_in_a_lake_in_a_bucket(bucket):
    write(bucket, "log.csv", lines(f"a,x,{NEW_YEAR}", f"b,y,{NEW_YEAR + 1}"))
    first, again = take(bucket), take(bucket)
    assert (first.inserted, again.files) == (2, [])
    assert sorted(Lake(f"{bucket}/lake").scan("interactions").collect()["user_id"].to_list()) == ["a", "b"]
    assert sources.raw_record(first.files[0], 2) == f"b,y,{NEW_YEAR + 1}"


def test_a_folder_that_was_published_to_a_bucket_comes_back_whole(bucket, tmp_path: Path):
    (tmp_path / "model" / "inner").mkdir(parents=True)
    (tmp_path / "model" / "inner" / "weights").write_bytes(b"123")
    lake = Lake(f"{bucket}/lake")
    sha256 = storage.publish(lake, tmp_path / "model", "models/a")
    copy = storage.local_copy(lake, "models/a", home=str(tmp_path / "home"))
    assert (copy / "inner" / "weights").read_bytes() == b"123"
    assert storage.published(lake, "models/a") == sha256
    assert "models/a/inner/weights" in lake.list_paths("models")


INGEST = """
import sys
from datetime import date
from dealrec_core.ingest import interactions
from dealrec_core.lake import Lake
from dealrec_core.settings.sources import InteractionSource, SourcesConfig
bucket = sys.argv[1]
config = SourcesConfig(root=f"{bucket}/raw", interactions=InteractionSource(files=["**/*.csv*"]), max_bad_fraction=0.5)
print(interactions.ingest(Lake(f"{bucket}/lake"), config, through=date(2026, 1, 9), partition="day").inserted)
"""


def test_racing_ingests_of_the_same_files_lose_and_double_nothing(real_bucket):
    """Four rounds of three processes; the files of a round also repeat events of the round before and hold bad rows."""
    lake, landed = Lake(f"{real_bucket}/lake"), 0
    for number in range(4):
        rows = [f"u{number},{row},{NEW_YEAR + row % 3 * 86_400}" for row in range(100)]
        repeats = [f"u{number - 1},{row},{NEW_YEAR + row % 3 * 86_400}" for row in range(50 if number else 0)]
        write(real_bucket, f"{number}/plain.csv", lines(*rows[:60], *repeats, f",no user,{NEW_YEAR}"))
        write(real_bucket, f"{number}/packed.csv.gz", gzip.compress(lines(*rows[50:], "a,no time,soon")))
        command = [sys.executable, "-c", INGEST, real_bucket]
        racing = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)]
        for process in racing:
            out, err = process.communicate()
            assert process.returncode == 0, err.decode()
            landed += int(out)
    events = lake.scan("interactions").select("user_id", "item_id", "timestamp").collect()
    assert events.height == events.unique().height == landed == 400
    assert lake.scan("quarantine").collect().height == 8
    files = lake.scan("files").collect()
    assert files.height == 8
    sent = files.select(pl.sum_horizontal("inserted", "duplicates", "quarantined")).to_series()
    assert files["rows"].to_list() == sent.to_list()
    assert files["inserted"].sum() == 400


def test_tables_in_a_bucket_are_compacted_and_vacuumed_and_pinned_versions_stay(real_bucket):
    lake = Lake(f"{real_bucket}/lake")
    for number in range(3):
        write(real_bucket, f"{number}.csv", lines(f"u{number},x,{NEW_YEAR}"))
        take(real_bucket)
    first = next(version for version in range(4) if lake.scan("interactions", version).collect().height == 1)
    assert upkeep.compact(lake, "interactions", file_mib=1) == 3
    assert upkeep.vacuum(lake, "interactions", keep={first}, retention_hours=0) == 2
    upkeep.settle(lake, "interactions")
    assert lake.scan("interactions", first).collect()["user_id"].to_list() == ["u0"]
    assert upkeep.look(lake, "interactions", pins={first}).rows == lake.scan("interactions").collect().height == 3
    write(real_bucket, "3.csv", lines(f"u3,x,{NEW_YEAR}"))
    assert take(real_bucket).inserted == 1


def test_of_writers_that_saw_the_same_version_one_lands(real_bucket):
    """Conditional puts: the commit file of a version is made once."""
    lake = Lake(f"{real_bucket}/lake")
    rows = pl.DataFrame({"value": [1]})
    lake.append("t", rows, schema=rows.schema)

    def write_once(_: int) -> int:
        return lake.append("t", rows, schema=rows.schema, transaction=("file", 1))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(write_once, range(4))) == [1] * 4
    assert lake.scan("t").collect().height == 2


def test_writers_of_different_rows_all_land_however_many_race(real_bucket):
    """The first four make the table; a writer that was overtaken looks again and commits behind the others."""
    lake = Lake(f"{real_bucket}/lake")

    def write(value: int) -> int:
        rows = pl.DataFrame({"value": [value]})
        return lake.append("t", rows, schema=rows.schema, transaction=(f"file {value}", 1))

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(write, range(8))) == list(range(8))
    assert sorted(lake.scan("t").collect()["value"]) == list(range(8))


def test_an_ingest_that_hears_no_answer_to_any_commit_loses_and_doubles_nothing(real_server, monkeypatch):
    """The table library tries again, meets its own commit and calls it a conflict; the token in the log says that it landed."""
    command = [sys.executable, lossy.__file__, real_server]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as proxy:
        assert proxy.stdout is not None
        bucket = new_bucket(proxy.stdout.readline().strip(), monkeypatch)
        lake = Lake(f"{bucket}/lake")
        for number in range(2):
            write(
                bucket,
                f"{number}.csv",
                lines(f"a,{number},{NEW_YEAR}", f"b,{number},{NEW_YEAR}", f",no user,{NEW_YEAR}"),
            )
            report = take(bucket)
            assert (report.rows, report.inserted, report.quarantined) == (3, 2, 1)
            assert take(bucket).files == []
        rows = pl.DataFrame({"value": [1]})
        assert [lake.append("t", rows, schema=rows.schema) for _ in range(2)][1] == lake.version("t")
        events = lake.scan("interactions").select("user_id", "item_id").collect()
        assert sorted(events.rows()) == [("a", "0"), ("a", "1"), ("b", "0"), ("b", "1")]
        assert lake.changes("interactions", 0, lake.version("interactions")).height == 4
        assert lake.scan("files").collect()["inserted"].to_list() == [2, 2]
        assert lake.scan("quarantine").collect().height == lake.scan("t").collect().height == 2
        proxy.kill()
        lost = [path.split("/lake/")[1].split("/")[0] for path in proxy.stdout]
    assert {"quarantine", "interactions", "files", "t"} == set(lost)


def test_a_changed_byte_of_a_published_coreset_is_found(real_bucket, tmp_path: Path):
    (tmp_path / "coreset").mkdir()
    (tmp_path / "coreset" / "samples.jsonl").write_text('{"sample_id": "s"}\n')
    lake = Lake(f"{real_bucket}/lake")
    storage.publish(lake, tmp_path / "coreset", "coresets/night")
    lake.write_bytes("coresets/night/samples.jsonl", b'{"sample_id": "t"}\n')
    with pytest.raises(LakeError, match="samples.jsonl is not what was published"):
        storage.local_copy(lake, "coresets/night", home=str(tmp_path / "home"))


def test_a_wrong_key_is_told_and_changes_nothing(real_bucket, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(LakeError, match="table 't'"):
        Lake(f"{real_bucket}/lake").append("t", pl.DataFrame(schema=schema.ITEMS), schema=schema.ITEMS)
    with pytest.raises(LakeError, match="cannot open table 'files'.*privileges"):
        take(real_bucket)
    with pytest.raises(SourceError, match="check sources.root and the AWS_"):
        sources.find(f"{real_bucket}/raw", ["*.csv"])


def test_addresses_have_the_bucket_in_the_path_unless_the_environment_says_otherwise(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store.example")
    assert fsspec_options("s3://b")["config_kwargs"] == {"s3": {"addressing_style": "path"}}
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")
    assert fsspec_options("s3://b")["config_kwargs"] == {"s3": {"addressing_style": "virtual"}}
    assert fsspec_options("/folder") == {}
