"""Where an erased user can still be found: only in the places that docs/operations.md lists, each with what to do."""

import gzip
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import zstandard

from dealrec_core.lake import Lake, erasure

PAGE = Path("docs/operations.md")
PLACES = {
    "raw files, `sources.root`": "data/",
    "MLflow's runs": "artifacts/",
}
"""The places of the page's table that these two nights have, and the folder that each one is here."""


def test_an_erased_user_is_found_only_where_the_page_says(town, tmp_path):
    listed = re.findall(r"^\| (.+?) \|", PAGE.read_text("utf-8").split("## Erasing a user")[1].split("\n## ")[0], re.M)
    assert set(PLACES) <= set(listed)
    home = tmp_path / "home"
    shutil.copytree(town[0].config.run.home, home, ignore=shutil.ignore_patterns("lake-*"))  # a copy for other tests
    lake = Lake(f"{home}/lake")
    log = lake.scan("samples").collect()
    user = log["user_id"].mode().sort()[0]
    ids = [user, *log.filter(user_id=user)["sample_id"]]
    assert places(home, ids) > set(PLACES.values())  # tables, emitted coresets
    report = erasure.erase(lake, user, at=datetime.now(UTC), now=True)
    assert report.remaining == []
    assert places(home, ids) == set(PLACES.values())


def places(home: Path, ids: list[str]) -> set[str]:
    """The folders right below the home that have a file with one of the ids."""
    word = re.compile(rb"(?<!\w)(%s)(?!\w)" % b"|".join(re.escape(value.encode()) for value in ids))
    files = [path for path in home.rglob("*") if path.is_file() and word.search(text(path))]
    return {str(path.relative_to(home)).split("/")[0] + "/" for path in files}


def text(path: Path) -> bytes:
    """The unpacked content of a file. A Parquet file is returned as rows of JSON."""
    if path.suffix == ".parquet":
        return pl.read_parquet(path).write_ndjson().encode()
    content = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(content)
    return zstandard.ZstdDecompressor().stream_reader(content).read() if path.suffix == ".zst" else content
