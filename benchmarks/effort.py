"""Cost of effort on Games, in units of one plain LoRA forward and backward: `python benchmarks/effort.py`.

Side by side in one process, in CPU seconds of its one thread, over the same length-sorted batches. 1 = forward and
backward of the answer loss as fine-tuning computes it (output layer at answer tokens only), the gradients of every LoRA
weight left in `.grad`. Everything that `effort.score` does counts as effort, tokenising included; the plain pass gets
its rows tokenised. On a GPU, where there is one, the same in seconds of the clock.

BIGRec with LoRA on query and value, as in the paper, and on all linear layers; TIGER in its default shape. The models
are hardly trained: weights do not change the time. Each model is written to benchmarks/results/effort.json as soon as
it is measured; `--only tiger` makes one of them.
"""

import argparse
import copy
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.games import Games
from benchmarks.machine import machine
from dealrec_core.language import effort, language_model
from dealrec_core.language.answer_loss import answer_losses, length_batches
from dealrec_core.language.language_model import padded
from dealrec_core.language.lora import borrowed, with_lora
from dealrec_core.language.prompts import Example, Prompter
from dealrec_core.recommenders import semantic_ids, tiger
from dealrec_core.samples.sequences import Sequences
from dealrec_core.settings.language import EffortConfig, LanguageModelConfig, LoraConfig, PromptConfig
from dealrec_core.settings.recommenders import SemanticIdsConfig, TigerConfig

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(os.environ.get("EFFORT_RESULTS", ROOT / "benchmarks" / "results" / "effort.json"))
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
HISTORY_LENGTH = 10
PROMPT = PromptConfig(items="game products", item="game product")
SHAPE = LanguageModelConfig(steps=8)
NETWORK = TigerConfig()
REPEATED = ("plain", "effort, all", "effort, last")


def main() -> None:
    """Measures, prints and writes the results."""
    options = _options()
    torch.set_num_threads(1)
    games = Games((ROOT / os.environ.get("DEALREC_DATA", "../shared/data")).resolve() / "games")
    every = games.sequences(period="train")
    sample = every.take(np.random.default_rng(0).choice(len(every), options.samples, replace=False))
    for name in options.only or MEASURES:
        found = {"machine": machine(), **MEASURES[name](games, sample, options.repeats)}
        print(f"{name}: {json.dumps(found)}", flush=True)
        _write(name, found)


def _write(name: str, found: dict[str, Any]) -> None:
    """Beside what is there already."""
    RESULTS.parent.mkdir(exist_ok=True)
    before = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps({**before, name: found}, indent=1) + "\n", encoding="utf-8")


def _bigrec(modules: str) -> Callable[[Games, Sequences, int], dict[str, Any]]:
    lora = LoraConfig.model_validate({"modules": modules, "dropout": 0})

    def measure(games: Games, sample: Sequences, repeats: int) -> dict[str, Any]:
        examples = _examples(games, sample)
        with tempfile.TemporaryDirectory() as folder:
            histories = [[*example.history, example.target] for example in examples]
            language_model.build(Path(folder), games.catalogue.titles, histories, config=SHAPE, prompt=PROMPT, seed=0)
            return {"shape": SHAPE.model_dump(), **_measure(folder, examples, lora=lora, repeats=repeats)}

    return measure


def _examples(games: Games, sample: Sequences) -> list[Example]:
    titles, found = games.catalogue.titles, []
    for row, target in enumerate(sample.targets):
        history = sample.items[sample.offsets[row] : sample.offsets[row + 1]][-HISTORY_LENGTH:]
        found.append(Example([titles[item] for item in history], titles[target], str(row)))
    return found


def _measure(folder: str, sample: list[Example], *, lora: LoraConfig, repeats: int) -> dict[str, Any]:
    model, tokenizer = language_model.load(folder, device=DEVICE)
    prompter = Prompter(tokenizer, PROMPT)
    rows = [prompter.row(example) for example in sample]
    lengths = np.array([prompter.length(example) for example in sample])
    batches = list(length_batches(lengths, effort.MOST_TOKENS))
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

    def scored(which: str, batch_tokens: int = effort.MOST_TOKENS) -> np.ndarray:
        config = EffortConfig.model_validate({"parameters": which, "batch_tokens": batch_tokens})
        return effort.score(model, tokenizer, sample, prompt=PROMPT, config=config, lora=lora, seed=0, device=DEVICE)

    shuffled = np.random.default_rng(1).permutation(len(rows))
    unsorted = np.array_split(shuffled, len(batches))  # as many batches, all of one size
    works: dict[str, Callable[[], Any]] = {
        "plain": lambda: plain(batches),
        "effort, all": lambda: scored("all"),
        "effort, last": lambda: scored("last"),
        "plain, full logits and mask": plain_of_the_library,
        "plain, batches not sorted by length": lambda: plain(unsorted),
        "effort, all, batch 1": lambda: scored("all", 1),
        "one backward per sample": lambda: _one_by_one(
            tuned, (answer_losses(tuned, [row], device=DEVICE) for row in rows)
        ),
    }
    return {
        "tokens": int(lengths.sum()),
        "batches": len(batches),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        **_compared(works, len(sample), repeats),
    }


def _tiger(games: Games, sample: Sequences, repeats: int) -> dict[str, Any]:
    ids = semantic_ids.fit(games.catalogue, config=SemanticIdsConfig(), seed=0)
    lora = LoraConfig(modules="attention", dropout=0)
    torch.manual_seed(0)
    model: Any = tiger.network(NETWORK, ids)
    model = model.to(DEVICE).eval()
    tuned: Any = with_lora(copy.deepcopy(model), lora, seed=0).to(DEVICE).eval()
    batches = list(tiger.exact_batches(sample, NETWORK, batch_tokens=effort.MOST_TOKENS, ids=ids))

    def plain(groups: list[np.ndarray]) -> None:
        for batch in groups:
            tiger.losses(tuned, sample, batch, ids, history_length=NETWORK.history_length).sum().backward()
            tuned.zero_grad()

    def scored(which: str, batch_tokens: int = effort.MOST_TOKENS) -> np.ndarray:
        config = EffortConfig.model_validate({"parameters": which, "batch_tokens": batch_tokens})
        with borrowed(model, lora, seed=0, device=DEVICE) as adapted:
            losses = tiger.sample_losses(adapted, sample, ids, config=NETWORK, batch_tokens=batch_tokens)
            return effort.norms(adapted, losses, list(map(str, range(len(sample)))), parameters=config.parameters)

    works: dict[str, Callable[[], Any]] = {
        "plain": lambda: plain(batches),
        "effort, all": lambda: scored("all"),
        "effort, last": lambda: scored("last"),
        "effort, all, batch 1": lambda: scored("all", 1),
        "one backward per sample": lambda: _one_by_one(
            tuned,
            (
                tiger.losses(tuned, sample, np.array([row]), ids, history_length=NETWORK.history_length)
                for row in range(len(sample))
            ),
        ),
    }
    return {
        "shape": NETWORK.model_dump(),
        "batches": len(batches),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        **_compared(works, len(sample), repeats),
    }


MEASURES = {
    "bigrec-attention": _bigrec("attention"),
    "bigrec-all": _bigrec("all"),
    "tiger": _tiger,
}


def _one_by_one(model: Any, losses: Iterator[torch.Tensor]) -> np.ndarray:
    """The definition: one backward per sample, then the norm over all LoRA weights."""
    found = []
    for loss in losses:
        loss.sum().backward()
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        found.append(sum(float(gradient.double().square().sum()) for gradient in gradients) ** 0.5)
        model.zero_grad()
    return np.array(found)


def _compared(works: dict[str, Callable[[], Any]], samples: int, repeats: int) -> dict[str, Any]:
    """The first three in every round, the slow references in the first one; every ratio is taken within one round."""
    scores = {name: works[name]() for name in REPEATED}  # to warm up
    rounds = []
    for number in range(repeats):
        seconds = {}
        for name, work in works.items():
            if name in REPEATED or number == 0:
                start = _clock()
                scores[name] = work()
                seconds[name] = _clock() - start
        rounds.append(seconds)
    ratios = {name: [round(each[name] / each["plain"], 3) for each in rounds if name in each] for name in works}
    return {
        "samples": samples,
        "plain, seconds": [round(each["plain"], 2) for each in rounds],
        "speed-up of effort over batch 1": round(rounds[0]["effort, all, batch 1"] / rounds[0]["effort, all"], 2),
        "largest relative difference of a score": {
            f"to {name}": float(f"{np.abs(scores['effort, all'] / scores[name] - 1).max():.1e}")
            for name in ("effort, all, batch 1", "one backward per sample")
        },
        "median ratio to plain": {name: round(float(np.median(values)), 3) for name, values in ratios.items()},
        "ratios to the plain pass of the same round": ratios,
    }


def _clock() -> float:
    """CPU seconds; on a GPU, seconds of the clock once its work is done."""
    if DEVICE.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--only", nargs="*", choices=MEASURES)
    return parser.parse_args()


if __name__ == "__main__":
    main()
