"""Shared fixtures: where the real data is, and one tidy set of environment variables for every test."""

import os
from pathlib import Path

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # before torch: small models gain nothing from more, and a busy machine loses much

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder with games/ and movielens-small/; skipped on a user's machine without it, an error in CI."""
    folder = (ROOT / os.environ.get("DEALREC_DATA", "../shared/data")).resolve()
    if not (folder / "movielens-small" / "ratings.csv").is_file():
        message = f"no real data at {folder}; set DEALREC_DATA to the folder with movielens-small/ and games/"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder
