"""Installed packages are locked by version and hash, the lock file names no index, and security rules check the code."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = (ROOT / "constraints.lock").read_text("utf-8")
BUILD = {"editables", "tomlkit"}
"""Packages that only the build of the package itself needs."""
CUDA = re.compile(r"nvidia-|cuda-|triton|async-timeout")
"""Packages that torch needs where there is a GPU, and a package that only Python 3.11 needs."""


def versions(text: str) -> dict[str, str]:
    """Version by name, as both files write them."""
    pairs = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", text, re.MULTILINE)
    return {name.lower().replace("_", "-"): version for name, version in pairs}


def test_both_lock_files_name_the_same_versions():
    locked, constraints = versions(LOCK), versions((ROOT / "constraints.txt").read_text("utf-8"))
    assert len(constraints) > 200
    assert constraints.items() <= locked.items(), "run make lock"
    assert {name for name in locked.keys() - constraints.keys() if not CUDA.match(name)} <= BUILD


def test_every_locked_package_has_hashes_and_no_place_where_it_was_found():
    entries = [entry for entry in re.split(r"\n(?=\S)", LOCK) if entry.strip()]
    assert len(entries) == len(versions(LOCK))
    for entry in entries:
        head, *hashes = [line.strip() for line in entry.replace("\\\n", "\n").strip().splitlines()]
        assert re.fullmatch(r"[a-z0-9.-]+==\S+( ; .+)?", head)
        assert hashes
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line) for line in hashes)


def test_the_rules_of_security_are_on_and_those_against_shells_and_run_text_have_no_exception():
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    ignored = {
        rule for rules in [lint["ignore"], *lint["per-file-ignores"].values()] for rule in rules if rule[0] == "S"
    }
    assert not ignored & {"S", "S102", "S307", "S501", "S506", "S602", "S604", "S605"}
