"""What effort costs on Games, in units of one plain LoRA forward and backward: `python benchmarks/effort.py`.

Side by side in one process, in CPU seconds of its one thread, over the same length-sorted batches. 1 = forward and
backward of the answer loss as fine-tuning computes it (output layer at answer tokens only), the gradients of every LoRA
weight left in `.grad`. Everything that `effort.score` does counts as effort, tokenising included; the plain pass gets
its rows tokenised. The model has the default size and is hardly pretrained: weights do not change the time. Writes
benchmarks/results/effort.json with the machine's facts.
"""

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
import transformers

from dealrec_core import effort, language_model
from dealrec_core.answer_loss import answer_losses, length_batches
from dealrec_core.effort import EffortConfig
from dealrec_core.fine_tuning import LoraConfig, with_lora
from dealrec_core.language_model import LanguageModelConfig, padded
from dealrec_core.recommenders.prompts import Example, PromptConfig, Prompter

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "effort.json"
CPU = torch.device("cpu")
HISTORY_LENGTH = 10
PROMPT = PromptConfig(items="game products", item="game product")


def main() -> None:
    """Measures, prints and writes the results."""
    options = _options()
    torch.set_num_threads(1)
    titles, examples = games((ROOT / os.environ.get("DEALREC_DATA", "../shared/data")).resolve() / "games")
    chosen = np.random.default_rng(0).choice(len(examples), options.samples, replace=False)
    sample = [examples[row] for row in np.sort(chosen)]
    shape = LanguageModelConfig(width=options.width, layers=options.layers, steps=10)
    found: dict[str, Any] = {"machine": machine(), "shape": shape.model_dump()}
    with tempfile.TemporaryDirectory() as folder:
        histories = [[*example.history, example.target] for example in examples]
        language_model.build(Path(folder), titles, histories, config=shape, prompt=PROMPT, seed=0)
        for modules in ("attention", "all"):
            lora = LoraConfig(modules=modules, dropout=0)
            found[modules] = _measure(folder, sample, lora=lora, repeats=options.repeats)
            print(f"{modules}: {json.dumps(found[modules])}", flush=True)
        if options.everything:
            found["every sample"] = _everything(folder, examples)
            print(f"every sample: {json.dumps(found['every sample'])}", flush=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def games(folder: Path) -> tuple[list[str], list[Example]]:
    """All titles, and one train sample per user with two or more train items: the last item after up to ten others."""
    lines = (folder / "items.jsonl").read_text(encoding="utf-8").splitlines()
    title_of = {item["item_id"]: item["title"] or str(item["item_id"]) for item in map(json.loads, lines)}
    examples = []
    for line in (folder / "sequential_train.txt").read_text().splitlines():
        user, *items = line.split()
        texts = [title_of[int(item)] for item in items[-HISTORY_LENGTH - 1 :]]
        if len(texts) > 1:
            examples.append(Example(texts[:-1], texts[-1], user))
    return list(title_of.values()), examples


def machine() -> dict[str, Any]:
    """What the numbers were taken on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "load average at start": round(os.getloadavg()[0], 2),
    }


def _measure(folder: str, sample: list[Example], *, lora: LoraConfig, repeats: int) -> dict[str, Any]:
    model, tokenizer = language_model.load(folder, device=CPU)
    prompter = Prompter(tokenizer, PROMPT)
    rows = [prompter.row(example) for example in sample]
    lengths = np.array([prompter.length(example) for example in sample])
    batches = list(length_batches(lengths, EffortConfig().batch_tokens))
    tuned: Any = with_lora(language_model.load(folder, device=CPU)[0], lora, seed=0).eval()

    def plain(groups: list[np.ndarray]) -> None:
        for batch in groups:
            answer_losses(tuned, [rows[row] for row in batch], device=CPU).sum().backward()
            tuned.zero_grad()

    def plain_of_the_library() -> None:
        for batch in batches:
            ids = padded([[*rows[row][0], *rows[row][1]] for row in batch], value=-1)
            starts = torch.tensor([len(rows[row][0]) for row in batch])[:, None]
            labels = torch.where((ids >= 0) & (torch.arange(ids.shape[1]) >= starts), ids, -100)
            tuned(input_ids=ids.clamp(min=0), attention_mask=(ids >= 0).long(), labels=labels).loss.backward()
            tuned.zero_grad()

    def scored(which: str) -> None:
        config = EffortConfig.model_validate({"parameters": which})
        effort.score(model, tokenizer, sample, prompt=PROMPT, config=config, lora=lora, seed=0, device=CPU)

    shuffled = np.random.default_rng(1).permutation(len(rows))
    unsorted = np.array_split(shuffled, len(batches))  # as many batches, all of one size
    works: dict[str, Callable[[], None]] = {
        "plain": lambda: plain(batches),
        "effort, all": lambda: scored("all"),
        "effort, last": lambda: scored("last"),
        "plain, full logits and mask": plain_of_the_library,
        "plain, batches not sorted by length": lambda: plain(unsorted),
        "one backward per sample": lambda: plain([np.array([row]) for row in range(len(rows))]),
    }
    seconds = _interleaved(works, repeats)
    unit = seconds["plain"]
    ratios = {name: [round(a / b, 3) for a, b in zip(values, unit, strict=True)] for name, values in seconds.items()}
    return {
        "samples": len(sample),
        "tokens": int(lengths.sum()),
        "batches": len(batches),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "plain, CPU seconds": [round(value, 2) for value in unit],
        "median ratio to plain": {name: float(np.median(values)) for name, values in ratios.items()},
        "ratios to the plain pass of the same round": ratios,
    }


def _interleaved(works: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """CPU seconds of each work in each round, after one round to warm up."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for number in range(repeats + 1):
        for name, work in works.items():
            start = time.process_time()
            work()
            if number:
                found[name].append(time.process_time() - start)
    return found


def _everything(folder: str, examples: list[Example]) -> dict[str, Any]:
    """All samples at once: time, and the growth of the process's peak memory."""
    model, tokenizer = language_model.load(folder, device=CPU)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    scores = effort.score(
        model, tokenizer, examples, prompt=PROMPT, config=EffortConfig(), lora=LoraConfig(), seed=0, device=CPU
    )
    return {
        "samples": len(scores),
        "CPU seconds": round(time.process_time() - start, 1),
        "growth of peak memory, MiB": round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024),
        "peak memory of the process, MiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=600)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--everything", action="store_true", help="also score every sample once, for the memory")
    return parser.parse_args()


if __name__ == "__main__":
    main()
