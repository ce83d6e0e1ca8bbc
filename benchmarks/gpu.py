"""Measures on a GPU, in under eight minutes: `python benchmarks/gpu.py --base FOLDER`. With `--tiny` every part runs on a CPU.

precision: influence on the device in float32, tf32 and bf16 beside the CPU's float32. speed: effort and tuning in tokens a
second, with the share of the peak of a large matrix product, and memory. effort: the device's bfloat16 beside float32 of the CPU.
cells: selections of Games, the language model tuned on each, and its ranking of candidates (`gpu_cells`), until the time is over.

BASE is a folder in the format of Hugging Face (`dealrec get-model smollm2-135m` makes one), or the GGUF file that it is made from,
whole or in parts (`--base a.gguf.part0 a.gguf.part1`). No network is needed. Results are written after every part.
"""

import argparse
import json
import os
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gpu_cells
import numpy as np
import polars as pl
import torch
from scipy.stats import spearmanr

from benchmarks.machine import machine
from dealrec_core import influence
from dealrec_core.language import fine_tuning, language_model
from dealrec_core.language.prompts import Example, Prompter
from dealrec_core.recommenders import backend
from dealrec_core.samples.sequences import encode
from dealrec_core.surrogate import training

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "gpu.json"
DATA = ROOT / os.environ.get("DEALREC_DATA", "../shared/data") / "games"
CPU = torch.device("cpu")


def main() -> None:
    """Runs the parts and writes their results."""
    options = _options()
    started = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    options.work.mkdir(parents=True, exist_ok=True)
    base = gpu_cells.whole_base(options.base, options.work)
    job = gpu_cells.Job(
        str(base), str(options.data), str(options.work), str(device), options.tiny, options.frame, options.pool
    )
    results: dict[str, Any] = {"machine": machine(), "base": Path(options.base[0]).name, "frame": options.frame}

    def keep(name: str, make: Callable[[], dict[str, Any]]) -> None:
        begun = time.perf_counter()
        try:
            results[name] = make()
        except Exception:  # the parts after it are worth having all the same
            results[name] = {"failed": traceback.format_exc()}
        results[name]["wall seconds"] = round(time.perf_counter() - begun, 1)
        options.results.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(name, json.dumps(results[name]), flush=True)

    def left() -> float:
        return options.seconds - (time.perf_counter() - started)

    keep("peak", lambda: {"bf16 TFLOP/s": _peak(device, tiny=options.tiny)})
    keep("selection", lambda: _selection(job))
    if not options.cells_only:
        keep("precision", lambda: _precision(job))
        keep("effort precision", lambda: _effort_agreement(job))
    keep("speed", lambda: _speed(job, results["peak"]["bf16 TFLOP/s"]))
    keep("cost", lambda: _cost(job, results["selection"], results["speed"]))
    keep("cells", lambda: gpu_cells.run(job, workers=options.workers, seconds=left(), out=options.results.parent))


def _peak(device: torch.device, *, tiny: bool) -> float:
    """TFLOP/s of a square bfloat16 product, the mean of ten after three."""
    size = 256 if tiny else 8192
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        left @ right
    seconds = _timed(lambda: [left @ right for _ in range(10)], device)[1] / 10
    return float(f"{2 * size**3 / seconds / 1e12:.4g}")


def _selection(job: gpu_cells.Job) -> dict[str, Any]:
    """Trains the surrogate and scores influence of the whole pool on the device; keeps both for the cells."""
    data, settings, device = job.data(), job.settings(), torch.device(job.device)
    ids = data.catalogue.item_ids
    pool, recent = encode(data.pool, ids), encode(data.recent, ids)
    trained, surrogate_s = _timed(
        lambda: training.train(pool, recent, item_count=len(ids), config=settings.surrogate, seed=0, device=device),
        device,
    )
    torch.save(trained.model.state_dict(), Path(job.work) / "surrogate.pt")
    result = {"samples": len(pool), "epochs": trained.epochs, "surrogate seconds": round(surrogate_s, 2)}
    for objective in ("loss", "ranking"):
        config = settings.influence.model_copy(update={"objective": objective})
        scored, seconds = _timed(
            partial(influence.score, trained.model, pool, recent, config=config, seed=0, device=device), device
        )
        np.save(Path(job.work) / f"influence-{objective}.npy", scored.scores)
        result |= {f"influence seconds, {objective}": round(seconds, 2), f"residual, {objective}": scored.residual}
    return result


def _precision(job: gpu_cells.Job) -> dict[str, Any]:
    """Influence of some samples by the device's precisions against the CPU's float32."""
    data, settings, device = job.data(), job.settings(), torch.device(job.device)
    ids = data.catalogue.item_ids
    pool = encode(data.pool, ids).take(np.arange(min(len(data.pool), 6000)))
    recent, model = encode(data.recent, ids), job.surrogate()

    def score(where: torch.device, precision: str) -> tuple[np.ndarray, float]:
        config = settings.influence.model_copy(update={"precision": precision})
        result, seconds = _timed(
            lambda: influence.score(model, pool, recent, config=config, seed=0, device=where), where
        )
        return result.scores, seconds

    expected, cpu_seconds = score(CPU, "float32")
    result: dict[str, Any] = {"samples": len(pool), "CPU": {"seconds": round(cpu_seconds, 2)}}
    for name, precision, tf32 in (("float32", "float32", False), ("tf32", "float32", True), ("bf16", "bf16", False)):
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        scores, seconds = score(device, precision)
        result[name] = {"seconds": round(seconds, 2), **_agreement(scores, expected)}
    torch.set_float32_matmul_precision("highest")
    return result


def _effort_agreement(job: gpu_cells.Job) -> dict[str, Any]:
    """Effort of some samples by the device's precision (bfloat16 on a GPU) against the CPU's float32."""
    data = job.data()
    some = data.pool.sample(min(len(data.pool), 48), seed=0)
    here, on_cpu = (backend.efforts(job.backend(device).open(job.base, data.catalogue), some) for device in (None, CPU))
    return _agreement(here, on_cpu)


def _agreement(scores: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    best = max(1, len(expected) // 50)
    common = np.intersect1d(np.argsort(-scores)[:best], np.argsort(-expected)[:best])
    return {
        "Spearman": round(float(spearmanr(scores, expected).statistic), 6),
        "largest error relative to the largest score": float(np.abs(scores - expected).max() / np.abs(expected).max()),
        "share of the best 2% in common": len(common) / best,
    }


def _speed(job: gpu_cells.Job, peak: float) -> dict[str, Any]:
    """Tokens a second of effort and of tuning at several sizes of a batch, share of the peak, and memory."""
    few, result = job.data().pool.sample(min(len(job.data().pool), 64 if job.tiny else 2048), seed=1), {}
    for size in (512,) if job.tiny else (8192, 32768):
        result[f"effort, {size} tokens a batch"] = _effort_speed(job, few, size, peak)
    for size in (8,) if job.tiny else (32, 256):
        result[f"tuning, {size} examples a step"] = _tuning_speed(job, few, size, peak)
    return result


def _effort_speed(job: gpu_cells.Job, samples: pl.DataFrame, size: int, peak: float) -> dict[str, float]:
    opened = job.backend(effort={"batch_tokens": size}).open(job.base, job.data().catalogue)
    backend.efforts(opened, samples.head(16))  # loads the model and warms the kernels
    return _rate(lambda: backend.efforts(opened, samples), int(opened.tokens(samples).sum()), job, peak)


def _tuning_speed(job: gpu_cells.Job, samples: pl.DataFrame, size: int, peak: float) -> dict[str, float]:
    data, settings, device = job.data(), job.settings(), torch.device(job.device)
    opened = job.backend().open(job.base, data.catalogue)
    prompter = Prompter(language_model.load_tokenizer(job.base), settings.bigrec.prompt)
    config = settings.fine_tune.model_copy(update={"epochs": 1, "batch_size": size})
    examples, held = opened.examples(samples), opened.examples(data.recent.head(8))

    def tune(examples: list[Example]) -> None:
        model = language_model.load(job.base, device=device)[0]
        fine_tuning.fine_tune(model, prompter, examples, held, config=config, seed=0)

    tune(examples[:32])  # warms the kernels
    return _rate(lambda: tune(examples), int(opened.tokens(samples).sum()), job, peak)


def _rate(work: Callable[[], Any], tokens: int, job: gpu_cells.Job, peak: float) -> dict[str, float]:
    """4 FLOP for each weight and token: forward and backward without gradients of the frozen weights."""
    device = torch.device(job.device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = _timed(work, device)[1]
    flops = 4.0 * gpu_cells.weights(job.base) * tokens
    memory = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else 0.0
    return {
        "tokens a second": round(tokens / seconds),
        "share of the peak": round(flops / seconds / 1e12 / peak, 4),
        "peak GB": round(memory, 2),
    }


def _cost(job: gpu_cells.Job, selection: dict[str, Any], speed: dict[str, Any]) -> dict[str, Any]:
    """Selection and tuning on 2% against one tuning on everything, as many epochs, at the measured tokens a second."""
    epochs, share = job.settings().fine_tune.epochs, 0.02
    opened = job.backend().open(job.base, job.data().catalogue)
    tokens = int(opened.tokens(job.data().pool).sum())
    tuning, effort = (
        max(part["tokens a second"] for name, part in speed.items() if name.startswith(kind))
        for kind in ("tuning", "effort")
    )
    everything, of_effort = tokens * epochs / tuning, tokens / effort
    cheap = selection["surrogate seconds"] + selection["influence seconds, ranking"] + share * everything
    shares = {"none": cheap, "the best quarter": cheap + of_effort / 4, "all": cheap + of_effort}
    return {
        "tokens of an epoch over everything": tokens,
        "tuning on everything, seconds": round(everything, 1),
        "effort on everything, seconds": round(of_effort, 1),
        "share of tuning on everything, by the samples with effort": {
            name: round(seconds / everything, 4) for name, seconds in shares.items()
        },
    }


def _timed(work: Callable[[], Any], device: torch.device) -> tuple[Any, float]:
    """The result, and the wall seconds until the device is done."""
    _done(device)
    started = time.perf_counter()
    result = work()
    _done(device)
    return result, time.perf_counter() - started


def _done(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--base", nargs="+", required=True, help="folder of the language model, or its GGUF file in parts"
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder of a data set in DEALRec's released format")
    parser.add_argument("--work", type=Path, default=ROOT / "var" / "gpu")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--seconds", type=float, default=470.0, help="after which no cell begins")
    parser.add_argument("--workers", type=int, default=4, help="processes that share the device")
    parser.add_argument("--pool", type=int, default=None, help="most samples to choose from, for a short run")
    parser.add_argument("--frame", default="auto", help="frame of the prompt")
    parser.add_argument("--cells-only", action="store_true", help="leaves the comparisons of precisions out")
    parser.add_argument("--tiny", action="store_true", help="a handful of samples, for a test on a CPU")
    return parser.parse_args()


if __name__ == "__main__":
    main()
