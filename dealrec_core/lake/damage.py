"""Damage that a power cut, a full disk or a killed writer leaves in the files of a local lake; a bucket keeps files whole."""

import re
from typing import TYPE_CHECKING

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


def log(table: str, version: int) -> str:
    """Returns the path of a commit."""
    return f"{table}/_delta_log/{version:020}.json"


def copy(table: str) -> str:
    """Returns the path of the copy of a table's newest commit, which table readers do not look at."""
    return f"{table}/_delta_log/_newest_commit"


def counted(lake: "Lake", table: str) -> tuple[int, bytes]:
    """Returns version and content of the newest commit that counts; -1 in a bucket, and in a table of an older program."""
    local = lake.local_path(copy(table))
    if local is None or not local.is_file():
        return -1, b""
    version, _, content = local.read_bytes().partition(b"\n")
    return int(version), content


def require_commits(lake: "Lake", table: str, version: int, newest: tuple[int, bytes]) -> None:
    """Lets a version of a table through whose commit is not empty, and not older or shorter than the newest one that counts.

    newest: `counted`, read before the table was opened, since another process may commit meanwhile.

    Raises:
        LakeError: a power cut or a disk has lost a commit.
    """
    last, content = newest
    state = "is gone"
    if version >= last:
        local = lake.local_path(log(table, version))
        size = local.stat().st_size if local is not None and local.is_file() else None
        if size is None or (size > 0 and (version != last or size == len(content))):
            return
        last, state = version, f"has only {size:,} bytes"
    raise LakeError(f"{log(table, last)} in {lake.root} {state}, and rows with it; run `dealrec doctor --repair`")


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
    actions = handle.get_add_actions()
    sizes = zip(actions.column("path").to_pylist(), actions.column("size_bytes").to_pylist(), strict=True)
    for path, size in sizes:
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
