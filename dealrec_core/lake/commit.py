"""The one way in which a table changes: look, commit through the handle that looked, and look again when that failed.

A store can report a commit as failed although it is there: the answer was lost, and the table library tried again and met its own
commit. Every commit therefore has a token, and the table's log, not the answer, says whether the commit succeeded.
"""

import json
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError

from dealrec_core.errors import DiskFull, LakeError
from dealrec_core.lake import damage, space
from dealrec_core.lake.store import line

if TYPE_CHECKING:
    from dealrec_core.lake.tables import Lake

ATTEMPTS = 20
"""Commits that one change of a table may lose to other writers."""
TOKEN = "dealrec.commit"
"""Note of a commit with the name that no other commit has."""
FENCE = "dealrec.appender"
"""Transaction that new rows carry: of two commits that saw the same version, the table refuses the second."""
Result = TypeVar("Result")


class Conflict(LakeError):
    """The commit is not in the table, since another writer was faster: open the table again, look, then decide."""


class Write(Protocol):
    """A call of the table library that makes at most one commit."""

    def __call__(self, *, commit_properties: CommitProperties) -> object: ...


def until_committed(table: str, attempt: Callable[[], Result]) -> Result:
    """Returns the result of `attempt`, which opens the table, looks and commits; it is repeated while others are faster.

    Raises:
        LakeError: other writers were faster ATTEMPTS times.
    """
    for _ in range(ATTEMPTS):
        try:
            return attempt()
        except Conflict as conflict:
            last = conflict
    raise LakeError(
        f"other writers of '{table}' were faster {ATTEMPTS} times; run it again when they are done"
    ) from last


def commit(
    lake: "Lake",
    table: str,
    handle: DeltaTable | None,
    write: Write,
    *,
    transactions: dict[str, int] | None = None,
    notes: dict[str, str] | None = None,
    is_data_synced: bool = False,
) -> int:
    """Makes one commit, waits until it is on the disk, and returns its version: that of `handle` if nothing was to be done.

    The commit counts from the moment at which its data files, itself, a copy of it and their folders are on the disk. Data files
    that it names are never removed here, whatever went wrong: a vacuum removes those that no version needs.

    handle: the table as the caller saw it, None where it does not exist.
    transactions: identifiers and numbers that the table records with the commit.
    is_data_synced: whether the data files that the commit names are on the disk already.

    Raises:
        Conflict: another writer was faster; the commit is not in the table.
        LakeError: the commit failed for another reason, or the log cannot be read after it failed.
    """
    before = -1 if handle is None else handle.version()
    token = uuid.uuid4().hex
    properties = CommitProperties(
        app_transactions=[Transaction(*pair) for pair in (transactions or {}).items()],
        custom_metadata={**(notes or {}), TOKEN: token},
    )
    failure: Exception | None = None
    try:
        write(commit_properties=properties)
    except (DeltaError, OSError) as error:
        failure = error
    version = _version_with(token, lake, table, after=before)
    if version is not None:
        if not lake.is_remote:
            _count(lake, table, version, is_data_synced=is_data_synced)
        return version
    if failure is None:
        return before
    if space.is_full(failure):
        raise DiskFull(f"table '{table}' is as it was: {space.told(lake.root)}") from failure
    message = f"cannot write table '{table}' in {lake.root}: {line(failure)}; run it again"
    if isinstance(failure, CommitFailedError) or lake.version(table) > before:
        raise Conflict(message) from failure
    raise LakeError(message) from failure


def _version_with(token: str, lake: "Lake", table: str, *, after: int) -> int | None:
    """The version whose commit has the token, None where none has; handles do not know, as theirs may be older."""
    version = after + 1
    while lake.exists_path(path := damage.log(table, version)):
        if token.encode() in lake.read_bytes(path):
            return version
        version += 1
    return None


def _count(lake: "Lake", table: str, version: int, *, is_data_synced: bool) -> None:
    """Makes a commit one that a power cut cannot lose, and keeps a copy of it: the table library waits for no disk."""
    content = lake.read_bytes(damage.log(table, version))
    if not is_data_synced:
        actions = [action for text in content.splitlines() for action in json.loads(text).items()]
        lake.sync(*(f"{table}/{file['path']}" for kind, file in actions if kind in ("add", "cdc")))
    lake.sync(damage.log(table, version))
    if damage.counted(lake, table)[0] < version:
        lake.write_bytes(damage.copy(table), b"%d\n%b" % (version, content))
