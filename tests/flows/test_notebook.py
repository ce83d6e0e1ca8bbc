import json
import runpy
from pathlib import Path

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "notebooks" / "night.ipynb"


def test_the_notebook_reads_the_lake_of_finished_nights(two_nights, tmp_path, monkeypatch):
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "lake").symlink_to(two_nights.root)
    cells = [cell for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    script = tmp_path / "night.py"
    script.write_text("\n".join("".join(cell["source"]) for cell in cells), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names = runpy.run_path(str(script))
    assert [night.name for night in names["finished"]] == [night.name for night in names["nights"](two_nights)]
    assert len(names["best"].collect()) == 5
    assert "candidate" in names["others"]
    assert all(cell["outputs"] == [] for cell in cells)
