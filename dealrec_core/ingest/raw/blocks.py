"""Reads whole lines of a file of any size and compression, in blocks of bounded size."""

import bz2
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import zstandard

from dealrec_core.errors import SourceError
from dealrec_core.ingest.raw.batch import Unreadable

BLOCK_BYTES = 16 * 2**20
LINE_BYTES = 2**20
"""A longer line is no record: it is skipped, and its beginning goes to quarantine."""
HEAD_BYTES = 4096
EXPANSION = 200
"""A compressed file that grows by more than this factor counts as a decompression bomb (text logs: 5 to 50)."""
HARMLESS_BYTES = 64 * 2**20
"""Nothing that unpacks to less is a bomb."""
PIECE_BYTES = 2**10
"""Zstandard input that is unpacked at a time: the densest block turns 4 bytes into 128 KiB, so a piece gives at most 32 MiB."""
BROKEN = (OSError, EOFError, zlib.error, zstandard.ZstdError)


@dataclass(frozen=True)
class Block:
    """Lines, each with its newline at the end; or only the beginning of one line that is too long."""

    content: bytes
    is_too_long: bool = False


def blocks(file: IO[bytes], path: str) -> Iterator[Block]:
    """Yields the lines of a file, plain or .gz, .zst or .bz2 by its name; Windows and old Mac line ends become plain ones.

    Raises:
        Unreadable: the compression is broken or cut off, or the file is a decompression bomb.
        SourceError: the disk or the network failed; the content may be good.
    """
    rest, is_skipping, is_mac = b"", False, None
    for chunk in _chunks(file, path):
        if is_mac is None:
            is_mac = b"\r" in chunk and b"\n" not in chunk
        if is_mac:
            chunk = chunk.replace(b"\r", b"\n")
        content = rest + chunk
        if is_skipping:
            _, newline, content = content.partition(b"\n")
            is_skipping = not newline
        end = content.rfind(b"\n") + 1
        rest = content[end:]
        if end:
            yield from _whole_lines(content[:end])
        if len(rest) > LINE_BYTES:
            yield Block(rest[:HEAD_BYTES], is_too_long=True)
            rest, is_skipping = b"", True
    if rest:
        yield Block(_plain_ends(rest + b"\n"))


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


def _chunks(file: IO[bytes], path: str) -> Iterator[bytes]:
    opened = _decompressed(file, path)
    produced = 0
    while True:
        try:
            chunk = opened.read(BLOCK_BYTES)
        except BROKEN as error:
            if isinstance(error, OSError) and error.errno is not None:  # the disk or the network, not the content
                raise SourceError(f"cannot read '{path}': {error}; start the night again") from error
            raise Unreadable(f"cannot unpack '{path}': {error}; write it again") from error
        if not chunk:
            return
        produced += len(chunk)
        if opened is not file and produced > max(HARMLESS_BYTES, EXPANSION * file.tell()):
            raise Unreadable(
                f"'{path}' unpacks to more than {EXPANSION} times its size; unpack it yourself if it is meant"
            )
        yield chunk


def _decompressed(file: IO[bytes], path: str) -> Any:
    name = path.lower()
    if name.endswith(".gz"):
        return gzip.GzipFile(fileobj=file)
    if name.endswith(".zst"):
        return _Zstandard(file)
    if name.endswith(".bz2"):
        return bz2.BZ2File(file)
    return file


class _Zstandard:
    """A Zstandard stream that notices when it is cut off, as the library's own reader does not."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._is_open = False

    def read(self, size: int) -> bytes:
        """Returns about `size` bytes, none at the end of the file."""
        out = bytearray()
        while len(out) < size:
            piece = (self._frame.unused_data if self._frame.eof else b"") or self._file.read(PIECE_BYTES)
            if not piece:
                break
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            out += self._frame.decompress(piece)
            self._is_open = not self._frame.eof
        if not out and self._is_open:
            raise EOFError("it ends in the middle of a frame")
        return bytes(out)
