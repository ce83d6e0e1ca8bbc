"""The pages about the library are run, as a reader would run them: block after block, in one session."""

from pathlib import Path

import polars as pl
import pytest

from tests import library

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    library.prepare(folder)
    return folder


def test_the_library_page_runs_and_its_first_block_is_a_coreset_in_thirty_lines(shop, monkeypatch, capsys):
    monkeypatch.chdir(shop)
    blocks = library.blocks(ROOT / "docs/library.md")
    code = [line for line in blocks[0].splitlines() if line and not line.startswith("#")]
    assert len(code) <= 30
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/library.md", "exec"), names)
    chosen, train = pl.read_parquet("coreset.parquet"), names["train"]
    assert len(chosen) == round(0.1 * len(train))
    assert set(chosen["sample_id"]) <= set(train["sample_id"])
    assert capsys.readouterr().out.splitlines()[1:] == ["(2,)", "['b', 'c']"]
