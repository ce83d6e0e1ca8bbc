"""Base models from outside: where they are on this machine, and the hash by which a bundle refers to one.

A base is named by a name of `known.MODELS` ("smollm2-135m"), by a folder, or by a name on the hub, with its commit after an
@ ("Qwen/Qwen3-0.6B@c1899de2"). It is stored once: in the folder of models (DEALREC_MODELS), in the hub's cache, or where its
owner keeps it.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dealrec_core.errors import DataError, SettingsError
from dealrec_core.language import known, whole

PATTERNS = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")
"""Files of a model that are read; all are data. Nothing else of a folder counts or is fetched."""
LISTINGS = {"sha256sums.json", "sha256.json"}
LARGE = 1 << 24
"""Bytes of a large file."""
HUB = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w.-]+)?")


@dataclass(frozen=True)
class Base:
    """A base model from outside, on this machine."""

    name: str
    """Name as in the settings. The name of a model from the hub ends with its commit."""
    folder: Path

    @property
    def sha256(self) -> str:
        """Hash over the names and contents of the files that are read."""
        return content_sha256(self.folder)

    @property
    def from_hub(self) -> bool:
        """Whether it stands in the hub's cache; its name then ends with its commit."""
        return self.name not in known.MODELS and not Path(self.name).is_dir()

    @property
    def reference(self) -> dict[str, str]:
        """The name, without a path of this machine, and the hash; a bundle keeps both in place of the model."""
        return {"name": self.folder.name if Path(self.name).is_dir() else self.name, "sha256": self.sha256}

    def remember(self) -> None:
        """Makes a folder of the owner's findable by its hash on this machine; others are found by name."""
        if Path(self.name).is_dir():
            link = _by_hash(self.sha256)
            link.parent.mkdir(parents=True, exist_ok=True)
            part = link.with_name(f"part-{os.getpid()}-{link.name}")
            part.unlink(missing_ok=True)
            part.symlink_to(self.folder.resolve())
            with suppress(OSError):  # a copy of it is there
                part.rename(link)
            part.unlink(missing_ok=True)


def models_folder() -> Path:
    """The folder of models on this machine: the environment variable DEALREC_MODELS, or ~/.cache/dealrec/models."""
    return Path(os.environ.get("DEALREC_MODELS") or "~/.cache/dealrec/models").expanduser()


def locate(name: str, *, weights: bool = True) -> Base:
    """The base of that name. One from the hub is fetched where it is not in its cache, without `weights` its small files alone.

    Raises:
        SettingsError: it is not here; the message says how to get it.
    """
    if name in known.MODELS:
        folder = models_folder() / name
        if not folder.is_dir():
            message = f"base model '{name}' is not on this machine (looked in {folder}); run `dealrec get-model {name}`"
            raise SettingsError(message)
        return Base(name, folder)
    if Path(name).is_dir():
        return Base(name, Path(name))
    if not HUB.fullmatch(name):
        advice = f"use 'embedded', {_names()}, a folder or a name on the hub"
        raise SettingsError(f"language_model.base_model '{name}': there is no such folder; {advice}")
    hub_name, _, commit = name.partition("@")
    folder = _snapshot(hub_name, commit or None, weights=weights)
    return Base(f"{hub_name}@{folder.name}", folder)


def referred(reference: dict[str, str]) -> Path:
    """The folder of the base that a bundle refers to.

    Raises:
        DataError: it is not on this machine, or has other content; the message says how to get it.
    """
    name, sha256 = reference["name"], reference["sha256"]
    other = ""
    for folder in _candidates(name, sha256):
        if content_sha256(folder) == sha256:
            return folder
        other = f" ({folder} has other content)"
    what = name if name in known.MODELS or "@" in name else f"{name} --from FOLDER"
    advice = f"run `dealrec get-model {what}`, or set DEALREC_MODELS to the folder that holds it"
    raise DataError(
        f"this recommender needs base model '{name}' (sha256 {sha256[:12]}), not found here{other}; {advice}"
    )


def keep(name: str, source: Path) -> Base:
    """Copies a model's folder into the folder of models, under its hash or a known name; what is there is left as it is."""
    target = models_folder() / name if name in known.MODELS else _by_hash(content_sha256(source))
    if not target.is_dir():
        with whole.folder(target) as part:
            for path in _files(source):
                shutil.copyfile(path, part / path.name)
    return Base(name if name in known.MODELS else str(target), target)


def content_sha256(folder: Path) -> str:
    """The hash over names and contents of the files of a model that are read; it does not depend on where the folder is."""
    sums = {path.name: _sha256(path) for path in _files(folder)}
    return hashlib.sha256(json.dumps(sums, indent=1).encode()).hexdigest()


def _candidates(name: str, sha256: str) -> Iterator[Path]:
    folders = [_by_hash(sha256), models_folder() / name if name in known.MODELS else None]
    yield from (folder for folder in folders if folder is not None and folder.is_dir())
    if "@" in name:
        with suppress(SettingsError):
            yield locate(name).folder


def _by_hash(sha256: str) -> Path:
    return models_folder() / "by-hash" / sha256[:16]


def _files(folder: Path) -> list[Path]:
    paths = (path for pattern in PATTERNS for path in folder.glob(pattern))
    return sorted(path for path in paths if path.is_file() and path.name not in LISTINGS)


def _sha256(path: Path) -> str:
    """The hash of a file's content; a large file is read again in one process only when its size or time has changed."""
    facts = path.stat()
    return whole.sha256(path) if facts.st_size < LARGE else _large(path, facts.st_size, facts.st_mtime_ns)


@cache
def _large(path: Path, size: int, mtime_ns: int) -> str:
    return whole.sha256(path)


def _snapshot(name: str, commit: str | None, *, weights: bool) -> Path:
    """The folder of a hub model's commit in the hub's cache; without a commit the newest one that can be had."""
    from huggingface_hub import snapshot_download  # here: nothing else needs it
    from huggingface_hub.errors import HfHubHTTPError

    patterns = [pattern for pattern in PATTERNS if weights or pattern != "*.safetensors"]
    try:
        return Path(snapshot_download(name, revision=commit, allow_patterns=patterns, ignore_patterns=["*/*"]))
    except (OSError, ValueError, HfHubHTTPError) as error:
        line = str(error).splitlines()[0]
        advice = f"use 'embedded', {_names()} or a folder"
        raise SettingsError(
            f"base model '{name}' is no folder here and cannot be had from the hub: {line}; {advice}"
        ) from error


def _names() -> str:
    return ", ".join(f"'{name}'" for name in known.MODELS)
