"""Which size of the embedded language model suits a small log: `python benchmarks/embedded_sizes.py`.

The log is the newcomer's (benchmarks/newcomer.py: 30,000 events of 800 users, 500 items). A model learns the first two fifths of it, as a
night's base model does. It is judged by the log-probability of titles that came later: 600 targets, in nats a title, lower is better.
One thread. Writes benchmarks/results/embedded_sizes.json.
"""

import csv
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import newcomer
from benchmarks import town as towns
from benchmarks.machine import machine
from dealrec_core.language import language_model
from dealrec_core.language.answer_loss import row_losses
from dealrec_core.language.prompts import Prompter
from dealrec_core.settings.language import LanguageModelConfig, PromptConfig

RESULTS = towns.ROOT / "benchmarks" / "results" / "embedded_sizes.json"
SIZES = [
    {"width": 128, "layers": 2, "steps": 600},
    {"width": 128, "layers": 2, "steps": 1500},
    {"width": 128, "layers": 4, "steps": 1500},
    {"width": 256, "layers": 4, "steps": 600},
]
LEARNT = 0.4
TARGETS = 600
PROMPT = PromptConfig()
Example = tuple[list[str], str]
"""Titles of a history, and the title that came next."""


def main() -> None:
    """Measures every size, prints a line of each and writes the results."""
    torch.set_num_threads(1)
    results: dict[str, Any] = {"machine": machine(), "sizes": []}
    with towns.folder(None) as folder:
        titles, learnt, later = _log(folder / "shop")
        for number, size in enumerate(SIZES):
            results["sizes"].append(size | _judged(folder / str(number), size, titles, learnt, later))
            print(json.dumps(results["sizes"][-1]), flush=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _log(folder: Path) -> tuple[list[str], list[list[str]], list[Example]]:
    """The titles of the catalogue, the histories to learn, and later examples of the same users."""
    newcomer.write_shop(folder, newcomer.Shop())
    with (folder / "artikel.csv").open(encoding="utf-8") as file:
        titles = {row["nr"]: row["bezeichnung"] for row in csv.DictReader(file, delimiter=";")}
    rows = pl.read_csv(next((folder / "log").glob("*.csv")), separator=";").with_row_index()
    learnt: list[list[str]] = []
    examples: list[Example] = []
    for _, user in rows.group_by("kunde", maintain_order=True):
        history = [titles[item] for item in user["artikelnr"]]
        past = user.filter(pl.col("index") < LEARNT * rows.height).height
        learnt.append(history[:past])
        examples += [(history[max(0, at - 10) : at], history[at]) for at in range(max(past, 1), len(history))]
    chosen = np.random.default_rng(0).choice(len(examples), TARGETS, replace=False)
    return sorted(set(titles.values())), learnt, [examples[place] for place in chosen]


def _judged(
    folder: Path, size: dict[str, int], titles: list[str], learnt: list[list[str]], later: list[Example]
) -> dict[str, float]:
    started = time.process_time()
    language_model.build(folder, titles, learnt, config=LanguageModelConfig.model_validate(size), prompt=PROMPT, seed=0)
    seconds = time.process_time() - started
    model, tokenizer = language_model.load(str(folder), device=torch.device("cpu"))
    prompter = Prompter(tokenizer, PROMPT)
    rows = [(prompter.prompt(history), prompter.answer(title)) for history, title in later]
    losses = np.empty(len(rows))
    with torch.no_grad():
        for places, means in row_losses(model, rows, batch_tokens=8192):
            losses[places] = means.numpy() * [len(rows[place][1]) for place in places]
    return {
        "parameters": model.num_parameters(),
        "CPU seconds": round(seconds),
        "nats a title": round(float(np.mean(losses)), 3),
        "standard error": round(float(np.std(losses) / TARGETS**0.5), 3),
    }


if __name__ == "__main__":
    main()
