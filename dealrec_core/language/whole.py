"""Folders and files that are whole or not there, and whose later changes are noticed."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def folder(target: Path) -> Iterator[Path]:
    """Gives an empty folder beside `target` that becomes `target` in one step when the block ends, its files synced.

    Nothing of it stays where the block raises. Where another process made `target` first, its content stays and ours goes.
    """
    part = target.with_name(f"part-{os.getpid()}-{target.name}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        for path in part.rglob("*"):
            _sync(path)
        try:
            part.rename(target)
        except OSError:
            if not target.exists():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    _sync(target.parent)


def write(path: Path, content: bytes) -> None:
    """Writes a file in one step; its folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"part-{os.getpid()}-{path.name}")
    part.write_bytes(content)
    _sync(part)
    part.rename(path)
    _sync(path.parent)


def sha256(path: Path) -> str:
    """The hash of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(folder: Path, listing: str) -> None:
    """Writes the hashes of all files below a folder to its file `listing`; written last, it marks the folder as whole."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != listing)
    hashes = {path.relative_to(folder).as_posix(): sha256(path) for path in paths}
    (folder / listing).write_text(json.dumps(hashes, indent=1, sort_keys=True), encoding="utf-8")


def changes(folder: Path, listing: str) -> dict[str, tuple[str, str]]:
    """The files of a sealed folder that are not what was sealed, each with its hash now and its hash then.

    Raises:
        OSError: the listing or a file is missing.
        ValueError: the listing is no JSON.
    """
    sealed: dict[str, str] = json.loads((folder / listing).read_text(encoding="utf-8"))
    pairs = {name: (sha256(folder / name), digest) for name, digest in sealed.items()}
    return {name: (now, then) for name, (now, then) in pairs.items() if now != then}


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
