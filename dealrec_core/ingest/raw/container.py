"""Unpacks raw files of any compression, detected from their first bytes and not from their names."""

import bz2
import gzip
import lzma
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import zstandard

from dealrec_core.errors import SourceError
from dealrec_core.ingest.raw.batch import Unreadable

CHUNK_BYTES = 16 * 2**20
EXPANSION = 200
"""A compressed file that grows by more than this factor counts as a decompression bomb (text logs: 5 to 50)."""
HARMLESS_BYTES = 64 * 2**20
"""Nothing that unpacks to less is a bomb."""
PIECE_BYTES = 2**10
"""Zstandard input that is unpacked at a time: the densest block turns 4 bytes into 128 KiB, so a piece gives at most 32 MiB."""
BROKEN = (OSError, EOFError, zlib.error, zstandard.ZstdError, lzma.LZMAError, zipfile.BadZipFile, RuntimeError)
"""RuntimeError: a zip file with a password."""
PACKINGS = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"PK\x03\x04": "zip",
}
SUFFIXES = {
    ".gz": "gzip",
    ".gzip": "gzip",
    ".zst": "zstd",
    ".zstd": "zstd",
    ".bz2": "bzip2",
    ".xz": "xz",
    ".zip": "zip",
}
OTHERS = {
    b"ORC": "an ORC file",
    b"Obj\x01": "an Avro file",
    b"ARROW1": "an Arrow file",
    b"SQLite format 3": "a SQLite database",
    b"\xd0\xcf\x11\xe0": "an old Excel file",
    b"\x04\x22\x4d\x18": "packed with LZ4",
    b"\xff\x06\x00\x00sNaPpY": "packed with Snappy",
    b"7z\xbc\xaf\x27\x1c": "packed with 7-Zip",
    b"Rar!": "packed with RAR",
    b"%PDF": "a PDF file",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy file",
    b"\x80\x04\x95": "a Python pickle",
    b"\x80\x05\x95": "a Python pickle",
}
"""First bytes of files that are refused by name."""
TAR = slice(257, 262)
HEAD_BYTES = 512


@dataclass(frozen=True)
class Unpacked:
    """The bytes of a file without its packing, to be read once from the beginning."""

    stream: Any
    packing: str
    """Name of the packing, '' where there is none."""
    packed: IO[bytes]
    path: str

    def chunks(self, size: int | None = None) -> Iterator[bytes]:
        """Yields the bytes, about `size` (CHUNK_BYTES) of them at a time.

        Raises:
            Unreadable: the packing is broken or cut off, or the file is a decompression bomb.
            SourceError: the disk or the network failed; the content may be good.
        """
        produced = 0
        while chunk := self._read(size or CHUNK_BYTES):
            produced += len(chunk)
            if self.packing and produced > max(HARMLESS_BYTES, EXPANSION * self.packed.tell()):
                raise Unreadable(
                    f"'{self.path}' unpacks to more than {EXPANSION} times its size; unpack it yourself if it is meant"
                )
            yield chunk

    def _read(self, size: int) -> bytes:
        try:
            return self.stream.read(size)
        except BROKEN as error:
            if isinstance(error, OSError) and error.errno is not None:  # the disk or the network, not the content
                raise SourceError(f"cannot read '{self.path}': {error}; start the night again") from error
            raise Unreadable(f"cannot unpack '{self.path}': {error}; write it again") from error


def unpack(file: IO[bytes], path: str) -> Unpacked:
    """Returns the content of a file, plain or packed with gzip, zstd, bzip2, xz or zip (with one file in it).

    A name that ends as a packed file's says so too, for a file whose first bytes are damaged.
    """
    head = file.read(HEAD_BYTES)
    file.seek(0)
    refuse(head, path)
    packing = packing_of(head)
    if not packing and not head.startswith(b"PAR1") and not _is_text(head):
        packing = next((name for suffix, name in SUFFIXES.items() if path.lower().endswith(suffix)), "")
    return Unpacked(_opened(file, packing, path), packing, file, path)


def packing_of(head: bytes) -> str:
    """Returns the name of the packing that first bytes show, '' for none."""
    return next((name for magic, name in PACKINGS.items() if head.startswith(magic)), "")


def _opened(file: IO[bytes], packing: str, path: str) -> Any:
    match packing:
        case "gzip":
            return gzip.GzipFile(fileobj=file)
        case "bzip2":
            return bz2.BZ2File(file)
        case "xz":
            return lzma.LZMAFile(file)
        case "zstd":
            return _Zstandard(file)
        case "zip":
            return _only_member(file, path)
    return file


def salvaged(file: IO[bytes], packing: str) -> Iterator[bytes]:
    """Yields what can be unpacked of a broken file, up to its fault: to count its rows, not to read them."""
    openers: dict[str, Any] = {
        "gzip": lambda: zlib.decompressobj(wbits=47), "bzip2": bz2.BZ2Decompressor, "xz": lzma.LZMADecompressor,
        "zstd": lambda: zstandard.ZstdDecompressor().decompressobj(),
    }  # fmt: skip
    if packing not in openers:
        return
    unpacker, piece, produced = openers[packing](), file.read(PIECE_BYTES), 0
    while piece:
        try:
            content = unpacker.decompress(piece)
        except BROKEN:
            return
        produced += len(content)
        if produced > max(HARMLESS_BYTES, EXPANSION * file.tell()):
            return
        yield content
        piece = b""
        if unpacker.eof:
            piece, unpacker = unpacker.unused_data, openers[packing]()
        piece = piece or file.read(PIECE_BYTES)


def spooled(chunks: Iterator[bytes]) -> IO[bytes]:
    """Returns bytes as a file that can be read from any place; large ones lie on the disk until it is closed."""
    spool: Any = tempfile.SpooledTemporaryFile(max_size=CHUNK_BYTES)  # noqa: SIM115 - the caller closes it
    for chunk in chunks:
        spool.write(chunk)
    spool.seek(0)
    return spool


def refuse(head: bytes, path: str) -> None:
    """Raises Unreadable for the beginning of a file of a kind that is not read."""
    kind = next((name for magic, name in OTHERS.items() if head.startswith(magic)), None)
    if head[TAR] == b"ustar":
        kind = "a tar archive"
    if kind:
        raise Unreadable(f"'{path}' is {kind}, which is not read; write it as CSV, JSON lines or Parquet")


def _is_text(head: bytes) -> bool:
    """Whether hardly any byte is a control letter."""
    return sum(byte < 9 or 13 < byte < 27 for byte in head) * 20 <= len(head)


def _only_member(file: IO[bytes], path: str) -> Any:
    try:
        archive = zipfile.ZipFile(file)
        members = [member for member in archive.infolist() if not member.is_dir() and not _is_hidden(member.filename)]
        if any(member.filename.startswith("xl/") for member in members):
            raise Unreadable(f"'{path}' is an Excel file, which is not read; save it as CSV (UTF-8)")
        if len(members) != 1:
            names = ", ".join(member.filename for member in members[:3])
            raise Unreadable(f"'{path}' holds {len(members)} files ({names}); a zip of one file is read: unpack it")
        return archive.open(members[0])
    except BROKEN as error:
        raise Unreadable(f"cannot unpack '{path}': {error}; write it again") from error


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


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
