"""The sources of the program that runs, and the git commit that they are checked out at."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("dealrec_core", "tasks", "flows")


def sources() -> list[Path]:
    """Returns the Python files that a night runs, sorted."""
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def git_commit() -> str | None:
    """Returns the checked-out commit, None where the program was installed from a wheel or git is not installed."""
    if not (ROOT / ".git").exists():  # a wheel may lie in an environment within somebody else's checkout
        return None
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
