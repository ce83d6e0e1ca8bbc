"""benchmarks/gpu.py in a tiny form on the CPU: every part, with a language model of the embedded size."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dealrec_core.language import language_model
from dealrec_core.settings.language import LanguageModelConfig, PromptConfig
from dealrec_core.study.config import DatasetConfig
from dealrec_core.study.data import released
from tests.dealrec_core.study.conftest import write_released


def test_every_part_runs_and_the_cpu_agrees_with_itself(tmp_path: Path) -> None:
    folder = write_released(tmp_path / "data")
    data = released("tiny", DatasetConfig(folder=str(folder)), seed=0)
    shape = LanguageModelConfig(vocabulary=512, width=32, layers=1, heads=2, steps=5)
    histories = [[data.catalogue.title_of[item] for item in row] for row in data.pool["history"].to_list()]
    language_model.build(
        tmp_path / "base", data.catalogue.titles, histories, config=shape, prompt=PromptConfig(), seed=0
    )
    results = tmp_path / "gpu.json"
    asked = {"--base": tmp_path / "base", "--data": folder, "--work": tmp_path / "work", "--results": results}
    options = [str(part) for pair in asked.items() for part in pair]
    run = [sys.executable, "benchmarks/gpu.py", "--tiny", "--workers", "1", *options]
    finished = subprocess.run(run, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-2000:]
    made = json.loads(results.read_text(encoding="utf-8"))
    failed = {name: part["failed"] for name, part in made.items() if isinstance(part, dict) and "failed" in part}
    assert not failed
    assert made["precision"]["float32"]["Spearman"] == pytest.approx(1.0)
    assert made["effort precision"]["Spearman"] == pytest.approx(1.0)
    cells = made["cells"]["methods"]
    assert set(cells) == {"base", "random", "targeted"}
    assert cells["random"]["seeds"] == 1
    assert 0 < cells["random"]["NDCG@100"] <= 1
