"""The lake: Delta tables and small files below one root, in a folder or an S3 bucket."""

import fcntl
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import fsspec
import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from dealrec_core import schema as schemas
from dealrec_core.errors import LakeError, NightBusy


class Conflict(LakeError):
    """Another writer changed the table first: open it again, look, then decide."""


@dataclass(frozen=True)
class Lake:
    """Tables and files below `root`: a folder, or s3://bucket/prefix with the usual AWS_* environment variables."""

    root: str

    def __post_init__(self) -> None:
        if not self.is_remote and (odd := re.search(r"[^!-~]|[%?#]", str(Path(self.root).resolve()))):
            raise LakeError(
                f"lake.root '{self.root}' lies in a folder with {odd[0]!r} in its name, which table readers take for part of "
                "an address; choose one of ASCII letters, digits and -_./"
            )

    # Tables

    def exists(self, table: str) -> bool:
        """Whether the table has been written at least once."""
        return self.version(table) >= 0

    def version(self, table: str) -> int:
        """The newest version of a table, -1 when it does not exist."""
        handle = self.open(table)
        return -1 if handle is None else handle.version()

    def scan(self, table: str, version: int | None = None) -> pl.LazyFrame:
        """The rows of a table at a version (the newest when None); their order is not defined.

        Raises:
            LakeError: there is no such table or version.
        """
        try:
            handle = DeltaTable(self.uri(table), version=version, storage_options=s3_options(self.root))
        except (TableNotFoundError, DeltaError, OSError) as error:
            wanted = "" if version is None else f", version {version}"
            raise LakeError(
                f"no table '{table}'{wanted} in {self.root}: {line(error)}; run `dealrec nightly`"
            ) from error
        return pl.scan_delta(handle)

    def changes(self, table: str, after: int, through: int) -> pl.DataFrame:
        """Rows that changed after version `after`, up to `through`, with _change_type: insert, delete or update_*.

        Raises:
            LakeError: the versions are not there any more.
        """
        handle = self.open(table)
        try:
            assert handle is not None
            if after >= through:
                empty = pl.DataFrame(handle.to_pyarrow_dataset().schema.empty_table())
                return empty.with_columns(pl.lit("insert").alias("_change_type"))
            feed = handle.load_cdf(starting_version=after + 1, ending_version=through)
            return pl.DataFrame(feed.read_all())
        except Exception as error:  # the reader of the feed raises nothing more exact
            raise LakeError(f"no changes of '{table}' from version {after} to {through}: {line(error)}") from error

    def append(
        self,
        table: str,
        frame: pl.DataFrame,
        *,
        schema: pl.Schema,
        transaction: tuple[str, int] | None = None,
        partition_by: list[str] | None = None,
    ) -> int:
        """Adds rows and returns the new version; a table made by an older schema gets the new columns.

        transaction: (identifier, number) recorded with the commit. A number that is not larger than the recorded one means
        that these rows are there already: nothing is written.

        Raises:
            Conflict: another writer of the same transaction was faster.
        """
        handle = self.open(table)
        if _has(handle, transaction):
            return handle.version()
        return self._write(
            table,
            frame,
            schema=schema,
            handle=handle,
            mode="append",
            schema_mode="merge",
            transaction=transaction,
            partition_by=partition_by,
        )

    def replace(
        self,
        table: str,
        frame: pl.DataFrame,
        *,
        schema: pl.Schema,
        where: str | None = None,
        transaction: tuple[str, int] | None = None,
    ) -> int:
        """Puts `frame` in the place of the rows that match `where` (of all rows when None); returns the new version.

        transaction: as in `append`; a stage that was killed after its commit leaves no second version behind.
        """
        handle = self.open(table)
        if _has(handle, transaction):
            return handle.version()
        return self._write(
            table,
            frame,
            schema=schema,
            handle=handle,
            transaction=transaction,
            mode="overwrite",
            predicate=where if handle is not None else None,
        )

    def transaction_version(self, table: str, identifier: str) -> int | None:
        """The number that the table has recorded for a transaction identifier, None when it has none."""
        handle = self.open(table)
        return None if handle is None else handle.transaction_version(identifier)

    def _write(
        self,
        table: str,
        frame: pl.DataFrame,
        *,
        schema: pl.Schema,
        handle: DeltaTable | None,
        transaction: tuple[str, int] | None = None,
        **options: Any,
    ) -> int:
        checked = schemas.check(frame, schema, name=table)
        commit = CommitProperties(app_transactions=[Transaction(*transaction)] if transaction else None)
        if handle is None:
            options["configuration"] = configuration(schema)
        try:
            # Through the handle that was asked for the transaction: a racing writer of the same one is then refused.
            write_deltalake(
                handle or self.uri(table),
                checked,
                commit_properties=commit,
                storage_options=None if handle else s3_options(self.root),
                **options,
            )
        except CommitFailedError as error:
            raise Conflict(f"table '{table}' in {self.root} was changed meanwhile; start the night again") from error
        except (DeltaError, OSError) as error:
            raise LakeError(
                f"cannot write table '{table}' in {self.root}: {line(error)}; start the night again"
            ) from error
        return self.version(table)

    def read_parquet(self, paths: list[str]) -> pl.LazyFrame:
        """The rows of data files of the lake."""
        return pl.scan_parquet(paths, storage_options=s3_options(self.root), hive_partitioning=False)

    def open(self, table: str) -> DeltaTable | None:
        """A handle on the newest version of a table, None when it does not exist."""
        try:
            return DeltaTable(self.uri(table), storage_options=s3_options(self.root))
        except TableNotFoundError:
            return None
        except (DeltaError, OSError) as error:
            raise LakeError(f"cannot open table '{table}' in {self.root}: {line(error)}") from error

    def uri(self, table: str) -> str:
        """Where a table is."""
        return f"{self.root.rstrip('/')}/{table}" if self.is_remote else str(Path(self.root).resolve() / table)

    # Files

    @property
    def is_remote(self) -> bool:
        """Whether the root is in an object store."""
        return "://" in self.root

    def local_path(self, path: str) -> Path | None:
        """The file or folder on this machine, None where the lake is in an object store."""
        return None if self.is_remote else Path(self.root).resolve() / path

    def write_bytes(self, path: str, content: bytes) -> None:
        """Writes a file below the root in one atomic step: whole or not at all, also when the machine stops."""
        local = self.local_path(path)
        if local is None:
            with self._files() as (files, root):
                files.pipe_file(f"{root}/{path}", content)
            return
        local.parent.mkdir(parents=True, exist_ok=True)
        part = local.with_name(f".{local.name}.{uuid.uuid4().hex}")
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.rename(local)

    def read_bytes(self, path: str) -> bytes:
        """The content of a file below the root."""
        local = self.local_path(path)
        if local is not None:
            try:
                return local.read_bytes()
            except OSError as error:
                raise LakeError(f"cannot read {path} in {self.root}: {line(error)}") from error
        with self._files() as (files, root):
            return bytes(files.cat_file(f"{root}/{path}"))

    def exists_path(self, path: str) -> bool:
        """Whether the file is there."""
        local = self.local_path(path)
        if local is not None:
            return local.is_file()
        with self._files() as (files, root):
            return bool(files.isfile(f"{root}/{path}"))

    def remove(self, path: str) -> None:
        """Removes a file below the root; no matter if it is not there."""
        local = self.local_path(path)
        if local is not None:
            local.unlink(missing_ok=True)
            return
        with self._files() as (files, root):
            if files.exists(f"{root}/{path}"):
                files.rm_file(f"{root}/{path}")

    def sync(self, path: str) -> None:
        """Waits until a file of a local lake is on the disk, so that a power cut does not take it."""
        local = self.local_path(path)
        if local is not None and local.is_file():
            with local.open("rb") as file:
                os.fsync(file.fileno())

    def list_paths(self, folder: str) -> list[str]:
        """Every file below a folder, as paths below the root, sorted."""
        local = self.local_path(folder)
        if local is not None:
            start = Path(self.root).resolve()
            return sorted(str(file.relative_to(start)) for file in local.rglob("*") if file.is_file())
        with self._files() as (files, root):
            return sorted(found.removeprefix(f"{root}/") for found in files.find(f"{root}/{folder}"))

    @contextmanager
    def _files(self) -> Iterator[tuple[fsspec.AbstractFileSystem, str]]:
        try:
            files, root = fsspec.url_to_fs(self.root.rstrip("/"), **fsspec_options(self.root))
            yield files, root
        except (OSError, ValueError) as error:
            raise LakeError(
                f"cannot reach {self.root}: {line(error)}; check the bucket and the AWS_* variables"
            ) from error


def _has(handle: DeltaTable | None, transaction: tuple[str, int] | None) -> TypeGuard[DeltaTable]:
    """Whether the table has recorded the transaction, or a later one of its identifier."""
    if handle is None or transaction is None:
        return False
    recorded = handle.transaction_version(transaction[0])
    return recorded is not None and recorded >= transaction[1]


SAFE_STATISTICS = {
    schemas.TIMESTAMP, schemas.PERIOD, schemas.NIGHT, schemas.ROW, "at", "through", "version",
    schemas.INFLUENCE, schemas.EFFORT, schemas.SCORE, "recall",
}  # fmt: skip


def configuration(schema: pl.Schema) -> dict[str, str | None]:
    """Properties of a new table: change feed on, personal columns out of the statistics, where an erasure would not reach them."""
    columns = [name for name in schema.names() if name in SAFE_STATISTICS]
    return {"delta.dataSkippingStatsColumns": ",".join(columns), **LASTING}


LASTING: dict[str, str | None] = {"delta.enableChangeDataFeed": "true", "delta.enableExpiredLogCleanup": "false"}
"""Of every table: a change feed, and a log that is kept. The format drops commits after 30 days, and with them every version
that a coreset names, whatever files a vacuum has left."""


@contextmanager
def lock(lake: Lake, *, home: str, name: str = "night") -> Iterator[None]:
    """Holds the lake for this process: a file lock that the kernel frees however the process ends.

    name: of the lock; `upkeep` keeps those apart who rewrite data files, which may go on beside a night.

    Raises:
        NightBusy: another process holds it.
    """
    folder = (
        Path(lake.root) if not lake.is_remote else Path(home) / "locks" / lake.root.split("://")[1].replace("/", "_")
    )
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise NightBusy(
                f"process {file.read().strip() or '?'} holds {lake.root} ({name}); wait until it ends"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def fsspec_options(uri: str) -> dict[str, Any]:
    """Options for fsspec: endpoint and addressing for S3, none for folders; both read the variables that delta-rs reads."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    if not uri.startswith("s3://"):
        return {}
    fresh = {"use_listings_cache": False}  # another process, of a night in pools or on Ray, writes there too
    if not endpoint:
        return fresh
    is_virtual = os.environ.get("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "").lower() in ("1", "true")
    style = "virtual" if is_virtual else "path"
    return {**fresh, "endpoint_url": endpoint, "config_kwargs": {"s3": {"addressing_style": style}}}


def s3_options(root: str) -> dict[str, str] | None:
    """Options for delta-rs: conditional puts on S3, none for folders."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    if not root.startswith("s3://"):
        return None
    return {"aws_conditional_put": "etag", **({"aws_allow_http": "true"} if endpoint.startswith("http://") else {})}


def line(error: BaseException) -> str:
    """The first line of an error's text, bounded."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
