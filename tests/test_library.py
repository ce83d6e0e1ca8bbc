"""The pages about the library are run, as a reader would run them: block after block, in one session."""

import runpy
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


def run(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The names that a page's blocks leave behind, run in a folder."""
    script = folder / f"{page}.py"
    script.write_text("\n".join(library.blocks(ROOT / "docs" / f"{page}.md")), encoding="utf-8")
    monkeypatch.chdir(folder)
    return runpy.run_path(str(script))


def test_the_library_page_runs_and_its_first_block_is_a_coreset_in_thirty_lines(shop, monkeypatch, capsys):
    first = library.blocks(ROOT / "docs" / "library.md")[0]
    assert len([line for line in first.splitlines() if line and not line.startswith("#")]) <= 30
    names = run("library", shop, monkeypatch)
    chosen, train = pl.read_parquet("coreset.parquet"), names["train"]
    assert len(chosen) == round(0.1 * len(train))
    assert set(chosen["sample_id"]) <= set(train["sample_id"])
    assert capsys.readouterr().out.splitlines()[1:] == ["(2,)", "['b', 'c']"]


def test_the_tutorial_runs_and_its_coresets_are_what_it_says(shop, monkeypatch, capsys):
    names = run("tutorial", shop, monkeypatch)
    chosen = names["chosen"]
    assert [len(rows) for rows in chosen.values()] == [20, 20, 20]
    assert chosen["greedy"]["influence"].mean() > chosen["random"]["influence"].mean()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "240 interactions, 216 samples"  # 24 customers with 10 each, of which the first is no sample
    assert [line.partition(":")[0] for line in lines[-3:]] == ["dealrec", "greedy", "random"]
