import bz2
import gzip
import io

import pytest
import zstandard

from dealrec_core.ingest.raw import blocks, container
from dealrec_core.ingest.raw.batch import Unreadable

PACKED = {"log.csv": bytes, "log.csv.gz": gzip.compress, "log.csv.zst": zstandard.compress, "log.csv.bz2": bz2.compress}


def read(content: bytes, name: str = "log.csv") -> list[blocks.Block]:
    return list(blocks.blocks(io.BytesIO(content), name))


@pytest.mark.parametrize("name", PACKED)
def test_a_file_of_any_compression_gives_its_lines(name):
    assert b"".join(block.content for block in read(PACKED[name](b"a\nb\n"), name)) == b"a\nb\n"


@pytest.mark.parametrize("name", PACKED)
def test_files_put_one_after_the_other_are_read_to_the_end(name):
    pack = PACKED[name]
    assert b"".join(block.content for block in read(pack(b"a\n") + pack(b"b\n"), name)) == b"a\nb\n"


@pytest.mark.parametrize("name", [name for name in PACKED if name != "log.csv"])
def test_a_file_that_is_cut_off_is_unreadable(name):
    with pytest.raises(Unreadable, match=f"cannot unpack '{name}'"):
        read(PACKED[name](b"some text\n" * 1000)[:-6], name)


@pytest.mark.parametrize("content", [b"a\r\nb\r\n", b"a\rb\r", b"a\nb"], ids=["windows", "old mac", "no end"])
def test_line_ends_become_plain_ones(content):
    assert b"".join(block.content for block in read(content)) == b"a\nb\n"


def test_lines_that_cross_the_border_of_a_block_stay_whole(monkeypatch):
    monkeypatch.setattr(container, "CHUNK_BYTES", 4)
    contents = [block.content for block in read(b"abcdef\r\ngh\nijklmn")]
    assert b"".join(contents) == b"abcdef\ngh\nijklmn\n"
    assert all(content.endswith(b"\n") for content in contents)


def test_a_line_that_is_too_long_gives_its_beginning_and_the_lines_around_it_stay(monkeypatch):
    monkeypatch.setattr(container, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(blocks, "LINE_BYTES", 2000)
    blocks_read = read(b"before\n" + b"x" * 10_000 + b"\nafter\n")
    assert [block.content for block in blocks_read if not block.is_too_long] == [b"before\n", b"after\n"]
    long = [block.content for block in blocks_read if block.is_too_long]
    assert len(long) == 1
    assert set(long[0]) == {ord("x")}


@pytest.mark.parametrize("name", [name for name in PACKED if name != "log.csv"])
def test_a_file_that_unpacks_to_hundreds_of_times_its_size_is_a_bomb(monkeypatch, name):
    monkeypatch.setattr(container, "HARMLESS_BYTES", 2**20)
    monkeypatch.setattr(container, "CHUNK_BYTES", 2**18)
    with pytest.raises(Unreadable, match="more than 200 times its size"):
        read(PACKED[name](bytes(2**24)), name)


def test_an_empty_file_has_no_blocks():
    assert read(b"") == []
