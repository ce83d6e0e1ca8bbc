"""The lake: Delta tables and small files below one root, in a folder or an S3 bucket."""

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import fsspec
import polars as pl
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from dealrec_core import schema as schemas
from dealrec_core.errors import LakeError
from dealrec_core.lake import damage, parallel, space
from dealrec_core.lake.commit import FENCE, commit, until_committed
from dealrec_core.lake.store import fsspec_options, line, s3_options

SYNC_THREADS = 8
"""Files that wait for the disk at once: it writes several in hardly more time than one."""


@dataclass(frozen=True)
class Lake:
    """Tables and files below `root`: a folder, or s3://bucket/prefix with the usual AWS_* environment variables."""

    root: str

    def __post_init__(self) -> None:
        if not self.is_remote and (odd := re.search(r"[^!-~]|[%?#]", str(Path(self.root).resolve()))):
            raise LakeError(
                f"lake.root '{self.root}' lies in a folder with {odd[0]!r} in its name, which table readers understand as part of "
                "an address; choose one of ASCII letters, digits and -_./"
            )

    # Tables

    def exists(self, table: str) -> bool:
        """Whether the table has been written at least once."""
        return self.version(table) >= 0

    def version(self, table: str) -> int:
        """Returns the newest version of a table, -1 when it does not exist."""
        handle = self.open(table)
        return -1 if handle is None else handle.version()

    def scan(self, table: str, version: int | None = None) -> pl.LazyFrame:
        """Returns the rows of a table at a version (the newest when None); their order is not defined.

        Raises:
            LakeError: there is no such table or version, or a data file of it is torn or gone.
        """
        handle = self.open(table, version)
        if handle is None:
            raise LakeError(f"no table '{table}' in {self.root}; run `dealrec nightly`")
        damage.require_whole(self, table, handle)
        return pl.scan_delta(handle)

    def rows(self, table: str, schema: pl.Schema) -> pl.DataFrame:
        """Returns all rows of a small table, none when it does not exist, without pyarrow, which takes a second to import."""
        handle = self.open(table)
        files = [] if handle is None else handle.file_uris()
        if handle is None or not files:
            return pl.DataFrame(schema=schema)
        damage.require_whole(self, table, handle)
        options = s3_options(self.root)
        scan = pl.scan_parquet(
            files, schema=schema, missing_columns="insert", extra_columns="ignore", storage_options=options
        )
        return scan.collect()

    def changes(self, table: str, after: int, through: int) -> pl.DataFrame:
        """Returns rows that changed after version `after`, up to `through`, with _change_type: insert, delete or update_*.

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
        self, table: str, frame: pl.DataFrame, *, schema: pl.Schema, transaction: tuple[str, int] | None = None
    ) -> int:
        """Adds rows and returns the version that holds them; a table made by an older schema gets the new columns.

        transaction: (identifier, number from 1) recorded with the commit. A number that is not larger than the recorded one means
        that these rows are there already: nothing is written.
        """
        return self._write(table, frame, schema=schema, transaction=transaction, mode="append", schema_mode="merge")

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
        return self._write(table, frame, schema=schema, transaction=transaction, mode="overwrite", predicate=where)

    def _write(
        self, table: str, frame: pl.DataFrame, *, schema: pl.Schema, transaction: tuple[str, int] | None, **options: Any
    ) -> int:
        rows = schemas.check(frame, schema, name=table)
        recorded = dict([transaction] if transaction else [])

        def attempt() -> int:
            handle = self.open(table)
            if handle is None:  # mode "error": a table that another writer makes meanwhile is opened and asked first
                new = {"configuration": configuration(schema), "storage_options": s3_options(self.root)}
                write = partial(write_deltalake, self.uri(table), rows, mode="error", **new)
                return commit(self, table, None, write, transactions={FENCE: 0, **recorded})
            if any((handle.transaction_version(name) or 0) >= number for name, number in recorded.items()):
                return handle.version()
            write = partial(write_deltalake, handle, rows, **options)
            return commit(self, table, handle, write, transactions={FENCE: handle.version() + 1, **recorded})

        return until_committed(table, attempt)

    def read_parquet(self, paths: list[str]) -> pl.LazyFrame:
        """Returns the rows of data files of the lake."""
        return pl.scan_parquet(paths, storage_options=s3_options(self.root), hive_partitioning=False)

    def open(self, table: str, version: int | None = None) -> DeltaTable | None:
        """Returns a handle on a version of a table (the newest when None), None when the table does not exist.

        Raises:
            LakeError: there is no such version, or a commit was lost.
        """
        newest = damage.counted(self, table)  # before the table is opened
        try:
            handle = DeltaTable(self.uri(table), version=version, storage_options=s3_options(self.root))
        except TableNotFoundError:
            damage.require_commits(self, table, -1, newest)
            return None
        except (DeltaError, OSError) as error:
            at = "" if version is None else f", version {version},"
            message = f"cannot open table '{table}'{at} in {self.root}: {line(error)}; run `dealrec doctor`"
            raise LakeError(message) from error
        damage.require_commits(self, table, handle.version(), newest if version is None else (-1, b""))
        return handle

    def uri(self, table: str) -> str:
        """Returns the address of a table or file."""
        return f"{self.root.rstrip('/')}/{table}" if self.is_remote else str(Path(self.root).resolve() / table)

    # Files

    @property
    def is_remote(self) -> bool:
        """Whether the root is in an object store."""
        return "://" in self.root

    def local_path(self, path: str) -> Path | None:
        """Returns the file or folder on this machine, None where the lake is in an object store."""
        return None if self.is_remote else Path(self.root).resolve() / path

    def write_bytes(self, path: str, content: bytes) -> None:
        """Writes a file below the root in one atomic step: whole or not at all, also when the machine stops."""
        local = self.local_path(path)
        if local is None:
            with self._store(path) as (files, name):
                files.pipe_file(name, content)
            return
        local.parent.mkdir(parents=True, exist_ok=True)
        part = local.with_name(f".{local.name}.{uuid.uuid4().hex}")
        try:
            with space.watched(self.root):
                part.write_bytes(content)
                _sync(part)
                part.rename(local)
        except BaseException:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        self._sync_folders(path)

    def sync(self, *paths: str) -> None:
        """Waits until files of a local lake, and the folders down to them, are on the disk, so that a power cut loses none."""
        files = [file for path in paths if (file := self.local_path(path)) is not None and file.is_file()]
        list(parallel.in_order(_sync, files, threads=SYNC_THREADS))
        if files:
            self._sync_folders(*paths)

    def _sync_folders(self, *paths: str) -> None:
        folders = {folder for path in paths for folder in PurePath(path).parents}
        for folder in sorted(folders, reverse=True):
            _sync(Path(self.root).resolve() / folder)

    def read_bytes(self, path: str) -> bytes:
        """Returns the content of a file below the root."""
        with self._store(path) as (files, name):
            return bytes(files.cat_file(name))

    def exists_path(self, path: str) -> bool:
        """Whether the file is there."""
        with self._store(path) as (files, name):
            return bool(files.isfile(name))

    def remove(self, path: str) -> None:
        """Removes a file below the root; no matter if it is not there."""
        with self._store(path) as (files, name):
            if files.exists(name):
                files.rm_file(name)

    def list_paths(self, folder: str) -> list[str]:
        """Returns every file below a folder, as paths below the root, sorted."""
        with self._store(folder) as (files, name):
            root = name.removesuffix(folder)
            return sorted(file.removeprefix(root) for file in files.find(name))

    @contextmanager
    def _store(self, path: str) -> Iterator[tuple[fsspec.AbstractFileSystem, str]]:
        """The folder or bucket, and the name of a path in it."""
        try:
            files, root = fsspec.url_to_fs(self.uri("").rstrip("/"), **fsspec_options(self.root))
            yield files, f"{root}/{path}"
        except (OSError, ValueError) as error:
            hint = "; check the bucket and the AWS_* variables" if self.is_remote else ""
            raise LakeError(f"cannot reach {path} in {self.root}: {line(error)}{hint}") from error


def _sync(path: Path) -> None:
    """Waits until a file, or the list of a folder's files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


SAFE_STATISTICS = {
    schemas.TIMESTAMP, schemas.PERIOD, schemas.NIGHT, schemas.ROW, "at", "through", "version",
    schemas.INFLUENCE, schemas.EFFORT, schemas.SCORE, "recall",
}  # fmt: skip


def configuration(schema: pl.Schema) -> dict[str, str | None]:
    """Returns the properties of a new table.

    Statistics are kept of SAFE_STATISTICS alone: an erasure would not reach a personal value there.
    """
    columns = [name for name in schema.names() if name in SAFE_STATISTICS]
    return {"delta.dataSkippingStatsColumns": ",".join(columns), **LASTING}


LASTING: dict[str, str | None] = {"delta.enableChangeDataFeed": "true", "delta.enableExpiredLogCleanup": "false"}
"""Properties of every table: a change feed, and a log that is never shortened. The format's default drops commits after 30 days,
and with them every version that a coreset names, whether its files are there or not."""
