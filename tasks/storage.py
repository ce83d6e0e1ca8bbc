"""Moves folders (checkpoints, model bundles, coresets) between this machine and the lake, with hashes."""

import fcntl
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dealrec_core.errors import LakeError
from dealrec_core.lake import Lake, sums
from dealrec_core.lake.store import SUMS


@dataclass
class Publication:
    """A local folder that is being filled, and the hash over its files once they are published."""

    folder: Path
    sha256: str = ""


@contextmanager
def publishing(lake: Lake, path: str) -> Iterator[Publication]:
    """A temporary folder whose files are published at `path` below the lake's root when the block ends well."""
    with tempfile.TemporaryDirectory() as name:
        publication = Publication(Path(name))
        yield publication
        publication.sha256 = publish(lake, publication.folder, path)


def publish(lake: Lake, folder: Path, path: str) -> str:
    """Copies a local folder to `path` below the lake's root, its hashes last; returns the hash over all files.

    A folder without its hashes is unfinished and is never named by a record, so a kill in between loses nothing.
    """
    hashes = {}
    for name in sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()):
        content = (folder / name).read_bytes()
        hashes[name] = hashlib.sha256(content).hexdigest()
        lake.write_bytes(f"{path}/{name}", content)
    listing = json.dumps(hashes, indent=1).encode()
    lake.write_bytes(f"{path}/{SUMS}", listing)
    return hashlib.sha256(listing).hexdigest()


def published(lake: Lake, path: str, recorded: str | None = None) -> str | None:
    """The hash over a published folder, None when it is missing or unfinished.

    Raises:
        LakeError: it is not what a night has recorded; nothing is checked where that is None.
    """
    listing = f"{path}/{SUMS}"
    if not lake.exists_path(listing):
        return None
    sums.of_folder(lake, path, recorded)
    return hashlib.sha256(lake.read_bytes(listing)).hexdigest()


def local_copy(lake: Lake, path: str, *, home: str, sha256: str | None = None) -> Path:
    """A checked local folder with the files published at `path`: the lake's own where it is local, else a cached copy.

    sha256: the hash over the folder that a stage has recorded, None where no record of it is left.

    Raises:
        LakeError: the folder is missing, or it or a file is not what was published.
    """
    listed = sums.of_folder(lake, path, sha256)
    local = lake.local_path(path)
    if local is None:
        local = Path(home) / "cache" / hashlib.sha256(lake.read_bytes(f"{path}/{SUMS}")).hexdigest()
        _download(lake, path, list(listed), local)
    for name, published_hash in listed.items():
        if hashlib.sha256((local / name).read_bytes()).hexdigest() != published_hash:
            message = f"{lake.root}/{path}/{name} is not what was published (sha256 differs); restore or rebuild it"
            raise LakeError(message)
    return local


def _download(lake: Lake, path: str, names: list[str], local: Path) -> None:
    """Copies the files to this machine; of several processes that want them one does, and the others wait."""
    local.parent.mkdir(parents=True, exist_ok=True)
    with local.with_name(f"{local.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if local.exists():
            return
        part = local.with_name(f"{local.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        for name in names:
            target = part / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(lake.read_bytes(f"{path}/{name}"))
        part.rename(local)
