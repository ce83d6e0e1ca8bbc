"""Reads whole lines of a file of any size, compression and encoding, in blocks of bounded size."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import IO

from dealrec_core.ingest.raw import encodings
from dealrec_core.ingest.raw.container import unpack
from dealrec_core.ingest.raw.encodings import AUTO, WESTERN

LINE_BYTES = 2**20
"""A longer line is no record: it is skipped, and its beginning goes to quarantine."""
HEAD_BYTES = 4096


@dataclass(frozen=True)
class Block:
    """Lines in UTF-8, each with its newline at the end; or only the beginning of one line that is too long."""

    content: bytes
    is_too_long: bool = False
    encoding: str = "utf-8"
    """The encoding that the file has."""
    is_open: bool = False
    """Whether the file ends without a newline: the last line may still be growing."""


def blocks(file: IO[bytes], path: str, *, encoding: str = AUTO) -> Iterator[Block]:
    """Yields the lines of a file; Windows and old Mac line ends become plain ones.

    Raises:
        Unreadable: the compression is broken or cut off, or the file is a decompression bomb.
        SourceError: the disk or the network failed; the content may be good.
    """
    chunks, name = text(unpack(file, path).chunks(), encoding)
    yield from lines(chunks, name)


def text(chunks: Iterator[bytes], encoding: str) -> tuple[Iterator[bytes], str]:
    """Returns a file's text as UTF-8 and the name of its encoding; AUTO where all of its bytes must be looked at."""
    first = next(chunks, b"")
    name = encodings.of_head(first[:HEAD_BYTES]) if encoding == AUTO else encoding
    whole = chain([first], chunks)
    if name == "utf-8-sig":
        return chain([first[3:]], chunks), "utf-8"
    if name == AUTO or _is_utf8(name):
        return whole, name
    return encodings.decoded(whole, name), name


def lines(chunks: Iterator[bytes], encoding: str = AUTO) -> Iterator[Block]:
    """Yields the lines of text in blocks; where the encoding is AUTO, the first bytes that are no UTF-8 decide it."""
    told = _Told(encoding)
    rest, is_skipping, is_mac = b"", False, None
    for chunk in chunks:
        if is_mac is None:
            is_mac = chunk.count(b"\r") > 10 * chunk.count(b"\n") and b"\r\n" not in chunk
        if is_mac:
            chunk = chunk.replace(b"\r", b"\n")
        content = rest + chunk
        if is_skipping:
            _, newline, content = content.partition(b"\n")
            is_skipping = not newline
        end = content.rfind(b"\n") + 1
        rest = content[end:]
        if end:
            yield from map(told.block, _whole_lines(content[:end]))
        if len(rest) > LINE_BYTES:
            yield Block(rest[:HEAD_BYTES], is_too_long=True, encoding=told.encoding)
            rest, is_skipping = b"", True
    if rest:
        yield told.block(Block(_plain_ends(rest + b"\n"), is_open=not rest.endswith(b"\r")))


@dataclass
class _Told:
    """The encoding of a file, as far as the bytes read so far tell it."""

    encoding: str

    def block(self, block: Block) -> Block:
        """Returns a block in UTF-8."""
        content = block.content
        if self.encoding == AUTO and not block.is_too_long and not content.isascii():
            self._decide(content)
        if self.encoding == WESTERN and not content.isascii():
            content = encodings.utf8_of(content, WESTERN)
        name = "utf-8" if self.encoding == AUTO else self.encoding
        return Block(content, block.is_too_long, name, block.is_open)

    def _decide(self, content: bytes) -> None:
        try:
            content.decode()
            self.encoding = "utf-8"
        except UnicodeDecodeError:
            is_western = not encodings.has_utf8(content) and encodings.is_western(content)
            self.encoding = WESTERN if is_western else "utf-8"


def _is_utf8(name: str) -> bool:
    return name.lower().replace("_", "-") in ("utf-8", "utf8")


def _whole_lines(content: bytes) -> Iterator[Block]:
    """Blocks of the lines, those that are too long apart: whether one is does not depend on where it lies in the file."""
    start = place = 0
    while place < len(content):
        end = content.rfind(b"\n", place, place + LINE_BYTES + 1) + 1
        if not end:
            if place > start:
                yield Block(_plain_ends(content[start:place]))
            yield Block(content[place : place + HEAD_BYTES], is_too_long=True)
            end = start = content.index(b"\n", place) + 1
        place = end
    if place > start:
        yield Block(_plain_ends(content[start:place]))


def _plain_ends(content: bytes) -> bytes:
    return content.replace(b"\r\n", b"\n") if b"\r" in content else content
