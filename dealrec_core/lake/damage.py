"""Damage that a power cut, a full disk or a killed writer leaves in the files of a local lake; a bucket keeps files whole."""

import re
from typing import TYPE_CHECKING

import polars as pl
from deltalake import DeltaTable

from dealrec_core.errors import LakeError

if TYPE_CHECKING:
    from dealrec_core.lake.tables import Lake

MAGIC = b"PAR1"
"""The last bytes of a whole Parquet file."""
UNFINISHED = re.compile(r"(#\d+|/\.[^/]+\.[0-9a-f]{32})$")
"""The names that files have while they are written, in a table and elsewhere."""


def torn(lake: "Lake", path: str) -> bool:
    """Whether a Parquet file has no end, so that nobody can read it."""
    local = lake.local_path(path)
    if local is None:
        return False
    with local.open("rb") as file:
        file.seek(max(0, local.stat().st_size - len(MAGIC)))
        return file.read() != MAGIC


def unfinished(lake: "Lake", folder: str) -> list[str]:
    """Returns the files below a folder that a killed writer did not come to give their names."""
    return [path for path in lake.list_paths(folder) if UNFINISHED.search(path)]


def require_whole(lake: "Lake", table: str, handle: DeltaTable) -> None:
    """Lets a version of a table through whose data files have the sizes that its log names.

    Raises:
        LakeError: a file is torn or gone; a reader of it would panic.
    """
    for path, state in damaged_files(lake, table, handle):
        raise LakeError(f"{path} of version {handle.version()} in {lake.root} {state}; run `dealrec doctor`")


def damaged_files(lake: "Lake", table: str, handle: DeltaTable) -> list[tuple[str, str]]:
    """Returns the data files of a version that are not as its log names them, and their state in words."""
    folder = lake.local_path(table)
    if folder is None:
        return []
    damages = []
    for path, size in pl.DataFrame(handle.get_add_actions()).select("path", "size_bytes").iter_rows():
        file = folder / path
        present = file.stat().st_size if file.is_file() else None
        if present != size:
            state = (
                "is gone: a vacuum removed it, or a disk lost it"
                if present is None
                else f"has {present:,} bytes of {size:,}"
            )
            damages.append((f"{table}/{path}", state))
    return damages
