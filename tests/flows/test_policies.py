"""The S3 policies of docs/security.md on a real gateway: a worker's key is enough for all its work, and no key may do more."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3fs

from dealrec_core.ingest import synthetic
from flows.upkeep import upkeep
from tasks.erasure import erase_user
from tests import ceph
from tests.flows.conftest import DEMO, LOG, Town, new_town

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]
BUCKET = "dealrec"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3fs.S3FileSystem]:
    """The gateway as the bucket's owner sees it; both policies are the bucket's, for the users that they are meant for.

    Ceph 16 asks for the right to delete at the bucket, too, where several files are deleted at once, and then at each file.
    """
    if reason := ceph.missing():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    with ceph.serve(tmp_path_factory.mktemp("ceph")) as address, pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
            patch.setenv(name, "us-east-1")
        for name in ("AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL"):
            patch.setenv(name, address)
        log_in(patch, ceph.KEY)
        owner = s3fs.S3FileSystem(key=ceph.KEY, secret=ceph.SECRET, endpoint_url=address)
        owner.mkdir(BUCKET)
        policies = re.findall(r"```json\n(.*?)```", Path("docs/security.md").read_text("utf-8"), re.DOTALL)
        statements = [
            {**statement, "Principal": {"AWS": [f"arn:aws:iam:::user/{user}"]}}
            for user, policy in zip(ceph.OTHERS, map(json.loads, policies), strict=True)
            for statement in policy["Statement"]
        ]
        principal = {"AWS": [f"arn:aws:iam:::user/{user}" for user in ceph.OTHERS]}
        statements.append(
            {
                "Effect": "Allow",
                "Action": "s3:DeleteObject",
                "Resource": f"arn:aws:s3:::{BUCKET}",
                "Principal": principal,
            }
        )
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        owner.call_s3("put_bucket_policy", Bucket=BUCKET, Policy=policy)
        yield owner


def log_in(patch: pytest.MonkeyPatch, key: str) -> s3fs.S3FileSystem:
    """Makes this key the environment's; returns what it sees of the store."""
    patch.setenv("AWS_ACCESS_KEY_ID", key)
    patch.setenv("AWS_SECRET_ACCESS_KEY", ceph.SECRET)
    s3fs.S3FileSystem.clear_instance_cache()
    return s3fs.S3FileSystem(key=key, secret=ceph.SECRET, endpoint_url=os.environ["AWS_ENDPOINT_URL"])


@pytest.fixture
def place(tmp_path: Path) -> Town:
    """A town whose raw files, lake and artifacts are in the bucket."""
    prefixes = {"sources.root": "raw", "lake.root": "lake", "registry.artifacts": "mlflow"}
    return Town([*new_town(tmp_path).overrides, *(f"{name}=s3://{BUCKET}/{below}" for name, below in prefixes.items())])


def test_a_workers_key_runs_nights_upkeep_and_erasure(store, place, tmp_path, monkeypatch, prefect_server):
    for day in (0, 1):
        synthetic.write_day(tmp_path / "new", day, LOG)
        store.put(f"{tmp_path}/new/", f"{BUCKET}/raw/", recursive=True)
        log_in(monkeypatch, "worker")
        assert place.night(day).outcome in ("promoted", "rejected", "unchanged")
    before = set(store.find(f"{BUCKET}/lake"))
    user = place.lake.scan("interactions").collect()["user_id"].mode().sort()[0]
    assert erase_user(place.config, user, now=True).remaining == []
    assert before - set(store.find(f"{BUCKET}/lake"))  # erasure deletes files
    assert upkeep(DEMO, place.overrides).vacuumed
    assert store.find(f"{BUCKET}/mlflow")


@pytest.mark.parametrize("key", ceph.OTHERS)
def test_no_key_may_do_more(store, monkeypatch, key):
    for below in ("raw", "lake", "mlflow", "others"):
        store.pipe_file(f"{BUCKET}/{below}/probe", b"as it was")
    granted = {
        "worker": {
            *("list raw", "read raw", "list mlflow", "read mlflow", "write mlflow"),
            *("list lake", "read lake", "write lake", "delete lake"),
        },
        "mlflow": {"list mlflow", "read mlflow", "write mlflow", "delete mlflow"},
    }
    seen = log_in(monkeypatch, key)
    tried = {
        "list": lambda path: seen.call_s3("list_objects_v2", Bucket=BUCKET, Prefix=path.split("/")[1] + "/"),
        "read": lambda path: seen.call_s3("get_object", Bucket=BUCKET, Key=path.split("/", 1)[1]),
        "write": lambda path: seen.pipe_file(f"{path}-2", b"new"),
        "delete": lambda path: seen.call_s3("delete_object", Bucket=BUCKET, Key=path.split("/", 1)[1]),
    }
    seen.call_s3("list_objects_v2", Bucket=BUCKET)  # the names of all files; the page says why
    possible = set()
    for below in ("raw", "lake", "mlflow", "others"):
        for name, act in tried.items():
            try:
                act(f"{BUCKET}/{below}/probe")
            except PermissionError:
                continue
            possible.add(f"{name} {below}")
    assert possible == granted[key]
