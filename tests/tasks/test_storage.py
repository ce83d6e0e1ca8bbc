import pytest

from dealrec_core.errors import LakeError
from dealrec_core.lake import Lake
from tasks import storage


@pytest.fixture
def lake(tmp_path) -> Lake:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"123")
    found = Lake(str(tmp_path / "lake"))
    storage.publish(found, tmp_path / "model", "models/a")
    return found


def test_a_published_folder_is_used_where_it_is(lake, tmp_path):
    assert (storage.local_copy(lake, "models/a", home=str(tmp_path)) / "weights").read_bytes() == b"123"


def test_a_flipped_byte_is_found_before_the_folder_is_used(lake, tmp_path):
    lake.write_bytes("models/a/weights", b"124")
    with pytest.raises(LakeError, match="weights is not what was published"):
        storage.local_copy(lake, "models/a", home=str(tmp_path))


def test_a_folder_without_its_hashes_is_unfinished(lake, tmp_path):
    lake.write_bytes("models/b/weights", b"1")
    assert storage.published(lake, "models/b") is None
    with pytest.raises(LakeError, match="models/b is missing or unfinished"):
        storage.local_copy(lake, "models/b", home=str(tmp_path))
