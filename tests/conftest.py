"""Shared fixtures: where the real data is, and one tidy set of environment variables for every test."""

import os
import tempfile
from pathlib import Path

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # before torch: small models gain nothing from more, and a busy machine loses much
os.environ.setdefault("DEALREC_MODELS", tempfile.mkdtemp(prefix="dealrec-models-"))  # not the person's own

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).resolve().parent.parent
settings.register_profile("dealrec", deadline=None)  # no test asserts a time: a busy machine would fail it
settings.load_profile("dealrec")
GROUPS = ["tests/deployments", "tests/flows", "tests/deployments/test_big_night.py"]
"""Folders with servers of their own, and what takes minutes without them, longest first; other files come after."""


class Groups(LoadScopeScheduling):
    """With several workers, tests that share servers stay on one of them. (`--dist loadgroup` groups nothing with pytest 9.2.)"""

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Groups:
    config.option.loadscopereorder = False
    return Groups(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several workers, the longest groups start first."""
    if hasattr(config, "workerinput"):
        order = {group: place for place, group in enumerate(GROUPS)}
        items.sort(key=lambda item: order.get(_group(item.nodeid), len(order)))


def _group(nodeid: str) -> str:
    """Group of a test: its file, or its folder where that has servers for the session."""
    file = nodeid.split("::")[0]
    return next((group for group in (file, str(Path(file).parent)) if group in GROUPS), file)


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
