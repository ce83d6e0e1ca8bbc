"""Hashes of data files and published folders: what a stage recorded is what a later stage uses, whatever lies beside it.

Every stage writes the sha256 of each data file of its tables to `nights/<night>/sums/<stage>.json` and the hash of that list into its
record. A data file is never changed, only replaced, so a night hashes the files that no night before it has listed.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import partial

from dealrec_core.errors import LakeError
from dealrec_core.lake import Lake, parallel
from dealrec_core.lake.store import SUMS

THREADS = 4
"""Files that are hashed at once: the reading of one overlaps with the hashing of others."""


def of_tables(lake: Lake, versions: Iterable[tuple[str, int]], known: Mapping[str, str]) -> dict[str, str]:
    """Returns the sha256 of every data file of these table versions, by path below the root; files that are known are not read."""
    paths = [path for table, version in versions for path in data_files(lake, table, version)]
    new = [path for path in paths if path not in known]
    hashes = dict(zip(new, parallel.in_order(partial(_hash, lake), new, threads=THREADS), strict=True))
    return {path: known.get(path) or hashes[path] for path in sorted(paths)}


def require_unchanged(lake: Lake, table: str, version: int, known: Mapping[str, str]) -> None:
    """Lets a version of a table of a local lake through whose data files are those that nights listed.

    A bucket checks its own bytes, and reading everything twice from it would double the time: there only `changed` looks.

    Raises:
        LakeError: a file was changed.
    """
    if lake.is_remote:
        return
    listed = {path: known[path] for path in data_files(lake, table, version) if path in known}
    for path in changed(lake, listed):
        raise LakeError(f"{path} in {lake.root} is not what was recorded (sha256 differs); restore it from a backup")


def changed(lake: Lake, known: Mapping[str, str]) -> list[str]:
    """Returns the files that are there with another content than known."""
    paths = [path for path in known if lake.exists_path(path)]
    hashes = parallel.in_order(partial(_hash, lake), paths, threads=THREADS)
    return [path for path, sha256 in zip(paths, hashes, strict=True) if sha256 != known[path]]


def of_folder(lake: Lake, path: str, recorded: str | None) -> dict[str, str]:
    """Returns the sha256 of each file of a published folder, by name, from the list beside them, which must be the recorded one.

    Raises:
        LakeError: the folder is missing or unfinished, or its list is not the recorded one.
    """
    if not lake.exists_path(f"{path}/{SUMS}"):
        raise LakeError(f"{lake.root}/{path} is missing or unfinished; run the night again")
    listing = lake.read_bytes(f"{path}/{SUMS}")
    if recorded is not None and hashlib.sha256(listing).hexdigest() != recorded:
        raise LakeError(
            f"{lake.root}/{path}/{SUMS} is not what the night recorded (sha256 differs); restore the folder from a backup"
        )
    return dict(json.loads(listing))


def data_files(lake: Lake, table: str, version: int) -> list[str]:
    """Returns the data files of a version of a table, as paths below the root; none where there is no such version."""
    handle = lake.open(table, version) if version >= 0 else None
    return [] if handle is None else [f"{table}/{path}" for path in handle.get_add_actions().column("path").to_pylist()]


def _hash(lake: Lake, path: str) -> str:
    local = lake.local_path(path)
    if local is None:
        return hashlib.sha256(lake.read_bytes(path)).hexdigest()
    with local.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
