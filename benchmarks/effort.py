"""What effort costs on Games, in units of one plain LoRA forward and backward: `python benchmarks/effort.py`.

cost: side by side in one process, in CPU seconds of its one thread, over the same length-sorted batches. 1 = forward and
backward of the answer loss as fine-tuning computes it (output layer at answer tokens only), the gradients of every LoRA
weight left in `.grad`. Everything that `effort.score` does counts as effort, tokenising included; the plain pass gets
its rows tokenised. On a GPU, where there is one, the same in seconds of the clock.
nights: 48,000 samples at once, with the growth of the peak memory beside that for a tenth of them, and then 1% more, as
a second night has to score them (the model loaded again).

The model has the default size and is hardly pretrained: weights do not change the time. Each part is written to
benchmarks/results/effort.json as soon as it is there; `--only nights` makes one of them.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from machine import machine

from dealrec_core import effort, language_model
from dealrec_core.answer_loss import answer_losses, length_batches
from dealrec_core.effort import EffortConfig
from dealrec_core.fine_tuning import LoraConfig, with_lora
from dealrec_core.language_model import LanguageModelConfig, padded
from dealrec_core.recommenders.prompts import Example, PromptConfig, Prompter

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(os.environ.get("EFFORT_RESULTS", ROOT / "benchmarks" / "results" / "effort.json"))
CPU = torch.device("cpu")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
HISTORY_LENGTH = 10
PROMPT = PromptConfig(items="game products", item="game product")


def main() -> None:
    """Measures, prints and writes the results."""
    options = _options()
    torch.set_num_threads(1)
    titles, examples = games((ROOT / os.environ.get("DEALREC_DATA", "../shared/data")).resolve() / "games")
    shape = LanguageModelConfig(width=options.width, layers=options.layers, steps=8)
    with tempfile.TemporaryDirectory() as folder:
        histories = [[*example.history, example.target] for example in examples]
        language_model.build(Path(folder), titles, histories, config=shape, prompt=PROMPT, seed=0)
        for part in options.only or PARTS:
            found = PARTS[part](folder, examples, options)
            print(f"{part}: {json.dumps(found)}", flush=True)
            _write(part, {"machine": machine(), "shape": shape.model_dump(), **found})


def games(folder: Path) -> tuple[list[str], list[Example]]:
    """All titles, and every sample of the train period: an item after at most ten others."""
    lines = (folder / "items.jsonl").read_text(encoding="utf-8").splitlines()
    title_of = {item["item_id"]: item["title"] or str(item["item_id"]) for item in map(json.loads, lines)}
    examples = []
    for line in (folder / "sequential_train.txt").read_text().splitlines():
        user, *items = line.split()
        texts = [title_of[int(item)] for item in items]
        for stop in range(1, len(texts)):
            examples.append(Example(texts[max(0, stop - HISTORY_LENGTH) : stop], texts[stop], f"{user}-{stop}"))
    return list(title_of.values()), examples


def _write(part: str, found: dict[str, Any]) -> None:
    """Beside the other parts that are there already."""
    RESULTS.parent.mkdir(exist_ok=True)
    before = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps({**before, part: found}, indent=1) + "\n", encoding="utf-8")


def _drawn(examples: list[Example], count: int) -> list[Example]:
    chosen = np.random.default_rng(0).choice(len(examples), count, replace=False)
    return [examples[row] for row in np.sort(chosen)]


def _cost(folder: str, examples: list[Example], options: argparse.Namespace) -> dict[str, Any]:
    sample, found = _drawn(examples, options.samples), {}
    for modules in options.modules:
        lora = LoraConfig(modules=modules, dropout=0)
        found[f"LoRA on {modules}"] = _measure(folder, sample, lora=lora, repeats=options.repeats)
    return found


def _nights(folder: str, examples: list[Example], options: argparse.Namespace) -> dict[str, Any]:
    """Growth of the process's peak memory over the loaded model, and CPU seconds, of two nights."""
    drawn = _drawn(examples, options.night + options.night // 100)
    first, new = drawn[: options.night], drawn[options.night :]
    whole, after = _timed(folder, first)
    print(f"{len(first)} samples: {whole:.0f} CPU seconds, {after} MiB", flush=True)
    second, _ = _timed(folder, new)
    part, before = _timed(folder, first[::10])
    return {
        "samples": len(first),
        "CPU seconds": round(whole, 1),
        "growth of peak memory over the loaded model, MiB": after,
        "the same for a tenth of the samples, MiB": before,
        "a tenth, CPU seconds": round(part, 1),
        "new samples of the second night": len(new),
        "CPU seconds of the second night": round(second, 2),
        "second night to first": round(second / whole, 4),
    }


def _timed(folder: str, examples: list[Example]) -> tuple[float, int]:
    """CPU seconds with loading, and MiB by which the peak grew after loading, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_alone, folder, examples).result()


def _alone(folder: str, examples: list[Example]) -> tuple[float, int]:
    torch.set_num_threads(1)
    start = time.process_time()
    model, tokenizer = language_model.load(folder, device=CPU)
    before = psutil.Process().memory_info().rss
    effort.score(
        model, tokenizer, examples, prompt=PROMPT, config=EffortConfig(), lora=LoraConfig(), seed=0, device=CPU
    )
    return time.process_time() - start, round((_peak() - before) / 2**20)


def _peak() -> int:
    """Most bytes this process has held; getrusage would count those of the process that started it, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


PARTS = {"cost": _cost, "nights": _nights}


def _measure(folder: str, sample: list[Example], *, lora: LoraConfig, repeats: int) -> dict[str, Any]:
    model, tokenizer = language_model.load(folder, device=DEVICE)
    prompter = Prompter(tokenizer, PROMPT)
    rows = [prompter.row(example) for example in sample]
    lengths = np.array([prompter.length(example) for example in sample])
    batches = list(length_batches(lengths, EffortConfig().batch_tokens))
    tuned: Any = with_lora(language_model.load(folder, device=DEVICE)[0], lora, seed=0).eval()

    def plain(groups: list[np.ndarray]) -> None:
        for batch in groups:
            answer_losses(tuned, [rows[row] for row in batch], device=DEVICE).sum().backward()
            tuned.zero_grad()

    def plain_of_the_library() -> None:
        for batch in batches:
            ids = padded([[*rows[row][0], *rows[row][1]] for row in batch], value=-1)
            starts = torch.tensor([len(rows[row][0]) for row in batch])[:, None]
            labels = torch.where((ids >= 0) & (torch.arange(ids.shape[1]) >= starts), ids, -100)
            ids, labels = ids.to(DEVICE), labels.to(DEVICE)
            tuned(input_ids=ids.clamp(min=0), attention_mask=(ids >= 0).long(), labels=labels).loss.backward()
            tuned.zero_grad()

    def scored(which: str, batch_tokens: int = EffortConfig().batch_tokens) -> None:
        config = EffortConfig.model_validate({"parameters": which, "batch_tokens": batch_tokens})
        effort.score(model, tokenizer, sample, prompt=PROMPT, config=config, lora=lora, seed=0, device=DEVICE)

    shuffled = np.random.default_rng(1).permutation(len(rows))
    unsorted = np.array_split(shuffled, len(batches))  # as many batches, all of one size
    works: dict[str, Callable[[], None]] = {
        "plain": lambda: plain(batches),
        "effort, all": lambda: scored("all"),
        "effort, last": lambda: scored("last"),
        "plain, full logits and mask": plain_of_the_library,
        "plain, batches not sorted by length": lambda: plain(unsorted),
        "effort, all, batch 1": lambda: scored("all", 1),
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
        "plain, seconds": [round(value, 2) for value in unit],
        "speed-up of effort over batch 1": round(
            float(np.median(np.divide(seconds["effort, all, batch 1"], seconds["effort, all"]))), 2
        ),
        "median ratio to plain": {name: float(np.median(values)) for name, values in ratios.items()},
        "ratios to the plain pass of the same round": ratios,
    }


def _interleaved(works: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each work in each round, after one round to warm up."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for number in range(repeats + 1):
        for name, work in works.items():
            start = _clock()
            work()
            if number:
                found[name].append(_clock() - start)
    return found


def _clock() -> float:
    """CPU seconds; on a GPU, seconds of the clock once its work is done."""
    if DEVICE.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--night", type=int, default=48_000, help="samples of the first night")
    parser.add_argument("--modules", nargs="*", default=["attention", "all"], choices=["attention", "all"])
    parser.add_argument("--only", nargs="*", choices=PARTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
