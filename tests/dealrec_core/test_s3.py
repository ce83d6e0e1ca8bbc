"""Raw files and a lake in an S3 bucket. The server is a mock, so this shows that the paths fit, not that S3 keeps its promises."""

import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
import s3fs

from dealrec_core import interactions
from dealrec_core.lake import Lake
from dealrec_core.sources import InteractionSource, SourcesConfig
from tasks import storage

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
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


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"dealrec-{uuid.uuid4().hex}"
    s3fs.S3FileSystem(endpoint_url=server).mkdir(name)
    return f"s3://{name}"


def test_a_log_in_a_bucket_lands_once_in_a_lake_in_a_bucket(bucket):
    s3fs.S3FileSystem().pipe_file(
        f"{bucket}/raw/log.csv", b"user_id,item_id,timestamp\na,x,1767225600\nb,y,1767225601\n"
    )
    config = SourcesConfig(root=f"{bucket}/raw", interactions=InteractionSource(files=["*.csv"]))
    lake = Lake(f"{bucket}/lake")
    first, again = (interactions.ingest(lake, config, through=date(2026, 1, 1), partition="day") for _ in range(2))
    assert (first.inserted, again.files) == (2, [])
    assert sorted(lake.scan("interactions").collect()["user_id"].to_list()) == ["a", "b"]
    assert interactions.raw_record(first.files[0], 2) == "b,y,1767225601"


def test_a_folder_that_was_published_to_a_bucket_comes_back_whole(bucket, tmp_path: Path):
    (tmp_path / "model" / "inner").mkdir(parents=True)
    (tmp_path / "model" / "inner" / "weights").write_bytes(b"123")
    lake = Lake(f"{bucket}/lake")
    sha256 = storage.publish(lake, tmp_path / "model", "models/a")
    copy = storage.local_copy(lake, "models/a", home=str(tmp_path / "home"))
    assert (copy / "inner" / "weights").read_bytes() == b"123"
    assert storage.published(lake, "models/a") == sha256
    assert "models/a/inner/weights" in lake.list_paths("models")
