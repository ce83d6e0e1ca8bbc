"""Shared fixtures: where the real data is, and one tidy set of environment variables for every test."""

import os
from pathlib import Path

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # before torch: small models gain nothing from more, and a busy machine loses much

import pytest

ROOT = Path(__file__).resolve().parent.parent
GROUPS = ["deployments", "flows", "deployments/test_big_night.py"]
"""Folders with servers of their own, and what takes minutes without them, longest first; other files come after."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several workers, tests that share servers stay on one of them and the longest groups start first."""
    if not hasattr(config, "workerinput"):
        return
    order = {group: place for place, group in enumerate(GROUPS)}
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item.path)))
    items.sort(key=lambda item: order.get(_group(item.path), len(order)))


def _group(file: Path) -> str:
    """Group of a test file: itself, or its folder where that has servers for the session."""
    place = file.relative_to(ROOT / "tests")
    return next((group for group in (str(place), place.parts[0]) if group in GROUPS), str(place))


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
