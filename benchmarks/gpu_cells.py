"""Selections compared on a GPU: coresets of Games, the language model tuned on each, and its ranking of candidates.

A cell is a method and a seed. Candidates of a user are the targets, popular items of the validation period and items drawn by
their interactions in the train period; each is scored by teacher forcing. Users of their own choose how a title is scored
(summed, per token, or less its log probability after a prompt without titles), by the cells of `random` alone. The others judge.
"""

import json
import multiprocessing
import time
import traceback
import zlib
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors import safe_open

from dealrec_core import schema
from dealrec_core.coreset import selection
from dealrec_core.coreset.methods import NEEDS
from dealrec_core.language import known
from dealrec_core.language.prompts import Prompter
from dealrec_core.recommenders import backend, candidates, decoding, features
from dealrec_core.recommenders.backend import Backend, ItemStatistics
from dealrec_core.settings.coreset import CoresetConfig
from dealrec_core.settings.influence import InfluenceConfig
from dealrec_core.settings.surrogate import SurrogateConfig
from dealrec_core.settings.tree import Algorithms
from dealrec_core.study import data as study_data
from dealrec_core.study import gains
from dealrec_core.study.config import DatasetConfig
from dealrec_core.study.data import StudyData
from dealrec_core.surrogate import networks
from dealrec_core.surrogate.sasrec import Shape


@dataclass(frozen=True)
class Arm:
    """A selection as the cells compare it."""

    method: str
    seeds: int = 5
    objective: str = "loss"
    """Objective of the influence that the method is given."""


ARMS = {
    "random": Arm("random", seeds=10),
    "targeted": Arm("targeted", objective="ranking"),
    "dsir": Arm("dsir"),
    "dealrec": Arm("dealrec"),
}


def arms(job: "Job") -> dict[str, Arm]:
    """The arms of a run: all, or the first two for a test."""
    return dict(list(ARMS.items())[:2]) if job.tiny else ARMS


USERS = {False: 400, True: 2000}
"""Users who choose how titles are scored, and users who judge: drawn from the halves that benchmarks/targeted.py splits."""
RULES = ("summed", "per token", "less its own probability")
SURROGATE = SurrogateConfig(width=32, epochs=12, history_length=20, negatives=2048, patience=3)
PROMPT = {"items": "game products", "item": "game product", "title_characters": 48}


@dataclass(frozen=True)
class Job:
    """The base model, data, device and size of a run; every process gets a copy."""

    base: str
    folder: str
    work: str
    device: str
    tiny: bool
    frame: str
    pool: int | None = None

    def settings(self, **changes: dict[str, Any]) -> Algorithms:
        """The settings of all parts; changes: of a section."""
        tuning = {"epochs": 3, "batch_size": 32, "best_epoch_by": "loss", "validation_examples": 256}
        sections: dict[str, Any] = {name: {} for name in Algorithms.model_fields} | {
            "language_model": {"base_model": self.base},
            "bigrec": {"history_length": 5, "prompt": {**PROMPT, "frame": self.frame}},
            "fine_tune": {**tuning, "lora": {"modules": "all"}}
            | ({"epochs": 1, "validation_examples": 8} if self.tiny else {}),
            "effort": {"batch_tokens": 512 if self.tiny else 16384},
            "surrogate": SURROGATE.model_copy(update={"epochs": 1} if self.tiny else {}).model_dump(),
            "influence": InfluenceConfig(batch_tokens=512 if self.tiny else 131072).model_dump(),
        }
        for name, change in changes.items():
            sections[name] = {**sections[name], **change}
        return Algorithms.model_validate(sections)

    def backend(self, device: torch.device | None = None, *, seed: int = 0, **changes: dict[str, Any]) -> Backend:
        """BIGRec with the base, on the device."""
        return backend.build("bigrec", self.settings(**changes), device=device or torch.device(self.device), seed=seed)

    def data(self) -> StudyData:
        """The data set, read once in a process."""
        return _data(self.folder, self.tiny, self.pool)

    def surrogate(self) -> Any:
        """The trained surrogate, on the CPU."""
        shape = Shape(len(self.data().catalogue), width=SURROGATE.width, history_length=SURROGATE.history_length)
        model = networks.build("sasrec", shape, seed=0)
        model.load_state_dict(torch.load(Path(self.work) / "surrogate.pt", weights_only=True, map_location="cpu"))
        return model.eval()


@cache
def _data(folder: str, tiny: bool, pool: int | None) -> StudyData:
    data = study_data.released("games", DatasetConfig(folder=folder, users=10**9), seed=0)
    cases = data.cases.with_columns(judges=pl.Series(np.random.default_rng(17).permutation(len(data.cases)) % 2 == 1))
    parts = [cases.filter(pl.col("judges") == judges) for judges in USERS]
    drawn = [
        part.sample(min(len(part), 4 if tiny else count), seed=0)
        for part, count in zip(parts, USERS.values(), strict=True)
    ]
    return replace(data, cases=pl.concat(drawn), pool=data.pool if pool is None else data.pool.head(pool))


def weights(base: str) -> int:
    """Number of weights of the model in a folder, embeddings counted once."""
    with safe_open(Path(base) / "model.safetensors", framework="np") as file:
        return sum(int(np.prod(file.get_slice(name).get_shape())) for name in file.keys())  # noqa: SIM118


def whole_base(paths: list[str], work: Path) -> Path:
    """The base as a folder; a GGUF file, joined from its parts, is converted once."""
    if Path(paths[0]).is_dir():
        return Path(paths[0])
    joined = work / "base.gguf"
    joined.write_bytes(b"".join(Path(path).read_bytes() for path in paths))
    known.get("smollm2-135m", work / "base", source=joined)
    return work / "base"


def run(job: Job, *, workers: int, seconds: float, out: Path) -> dict[str, Any]:
    """Runs cells, seeds outermost, until the time is over; writes the values of every user and returns comparisons."""
    ends = time.time() + seconds
    if any("effort" in NEEDS[arm.method] for arm in arms(job).values()):
        _efforts(job)  # before the cells: it takes all the memory that they would need
    every = [(name, seed) for name, arm in arms(job).items() for seed in range(1 if job.tiny else arm.seeds)]
    every.sort(key=lambda cell: cell[1])
    tasks = [("base", 0), *every]
    cells: dict[tuple[str, int], dict[str, Any]] = {}
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(_cell, job, name, seed, ends) for name, seed in tasks]
        for future in as_completed(futures):
            if future.exception() is not None:
                traceback.print_exception(future.exception())
            elif (cell := future.result()) is not None:
                cells[cell["method"], cell["seed"]] = cell
                _keep(cells, out / "gpu_cells.npz")
                print(json.dumps({key: value for key, value in cell.items() if key != "users"}), flush=True)
    return compared(cells, job.data().cases["judges"].to_numpy())


def _keep(cells: dict[tuple[str, int], dict[str, Any]], path: Path) -> None:
    np.savez_compressed(path, **{f"{method} {seed}": cell["users"] for (method, seed), cell in cells.items()})


def _efforts(job: Job) -> None:
    """Effort of the whole pool by the language model, for the methods that ask for it."""
    torch.set_float32_matmul_precision("high")
    opened = job.backend().open(job.base, job.data().catalogue)
    np.save(Path(job.work) / "effort.npy", backend.efforts(opened, job.data().pool))


def _cell(job: Job, method: str, seed: int, ends: float) -> dict[str, Any] | None:
    """One selection, tuning and ranking; None where the time is over."""
    if time.time() > ends:
        return None
    torch.set_num_threads(2)
    torch.set_float32_matmul_precision("high")
    data = job.data()
    opened: Any = job.backend(seed=seed).open(job.base, data.catalogue)
    facts: dict[str, Any] = {"method": method, "seed": seed}
    started = time.perf_counter()
    if method == "base":
        model, tokenizer = opened._model.eval(), opened._tokenizer
    else:
        chosen = coreset(job, method, seed)
        facts |= {"coreset s": round(time.perf_counter() - started, 2), "samples": len(chosen)}
        started = time.perf_counter()
        tuned = opened.tune(
            chosen, data.recent.tail(job.settings().fine_tune.validation_examples), ItemStatistics(data.counts)
        )
        model, tokenizer = tuned.recommender.model.eval(), tuned.recommender.tokenizer
        facts |= {"tokens": tuned.tokens, **tuned.facts}
    facts["tuning s"] = round(time.perf_counter() - started, 2)
    started = time.perf_counter()
    facts["users"] = ranked(model, Prompter(tokenizer, job.settings().bigrec.prompt), data, size=4 if job.tiny else 24)
    return facts | {"ranking s": round(time.perf_counter() - started, 2)}


def coreset(job: Job, name: str, seed: int) -> pl.DataFrame:
    """The samples that an arm chooses of the pool, with influence by the surrogate and effort by the language model."""
    data, arm = job.data(), ARMS[name]
    needs = set(NEEDS[arm.method])
    scores = {"influence": np.zeros(len(data.pool)), "effort": np.zeros(len(data.pool))}
    if "influence" in needs:
        scores["influence"] = np.load(Path(job.work) / f"influence-{arm.objective}.npy")
    if "effort" in needs:
        scores["effort"] = np.load(Path(job.work) / "effort.npy")
    inputs = features.FeatureInputs(
        train=data.pool,
        recent=data.recent,
        aims=data.recent.tail(256),
        catalogue=lambda: data.catalogue,
        counts=lambda: data.counts,
        base=lambda: job.backend().open(job.base, data.catalogue),
        surrogate=lambda: (job.surrogate(), data.catalogue.item_ids),
        surrogate_config=SURROGATE,
        seed=0,
        device=torch.device(job.device),
    )
    pool, aims = features.features(needs - set(scores), inputs)
    frame = selection.with_features(data.pool.select(schema.SAMPLE_ID), {**scores, **pool})
    chosen = selection.select(frame, CoresetConfig(ratio=0.02), seed=seed, by=arm.method, reference=aims)
    return data.pool.join(chosen.frame, on=schema.SAMPLE_ID, how="semi").sort(schema.SAMPLE_ID)


def ranked(model: Any, prompter: Prompter, data: StudyData, *, size: int) -> np.ndarray:
    """float32 (U, 3 rules, 3): NDCG@100, NDCG@10 and recall@10 of each user; and in a last row the log-likelihood a token."""
    titles, pad = data.catalogue.title_of, 0
    lists = candidate_items(data)
    answers = {item: prompter.answer(titles[item]) for items, _ in lists for item in items}
    distinct = list({tuple(answer): None for answer in answers.values()})
    own = dict(
        zip(distinct, decoding.log_probabilities(model, prompter.prompt([]), distinct, batch_size=256), strict=True)
    )
    values = np.zeros((len(lists), len(RULES) + 1, 3), dtype=np.float32)
    histories = data.cases[schema.HISTORY].to_list()
    prompts = [prompter.prompt([titles[item] for item in history if item in titles][-5:]) for history in histories]
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        tokens = [[answers[item] for item in lists[row][0]] for row in rows]
        sums = candidates.log_probabilities(model, [prompts[row] for row in rows], tokens, pad=pad)
        for row, of_user, chances in zip(rows, tokens, sums, strict=True):
            lengths, relevant = np.array([len(answer) for answer in of_user]), lists[row][1]
            scores = (chances, chances / lengths, chances - np.array([own[tuple(answer)] for answer in of_user]))
            values[row, :-1] = [_measured(score, relevant) for score in scores]
            values[row, -1] = (chances / lengths)[relevant].mean()
    return values


def candidate_items(data: StudyData, *, count: int = 60) -> list[tuple[list[str], np.ndarray]]:
    """For each user the candidates in random order, and which of them are targets."""
    recent = data.recent[schema.ITEM_ID].value_counts(sort=True)[schema.ITEM_ID].to_list()[:count]
    items, weights_of = list(data.counts), np.array(list(data.counts.values()))
    result = []
    for user, targets in data.cases.select(schema.USER_ID, "targets").iter_rows():
        random = np.random.default_rng(zlib.crc32(str(user).encode()))
        drawn = random.choice(len(items), size=min(count, len(items)), replace=False, p=weights_of / weights_of.sum())
        every = list(dict.fromkeys([*targets, *recent, *(items[place] for place in drawn)]))
        shuffled = [every[place] for place in random.permutation(len(every))]
        known = set(targets)
        result.append((shuffled, np.array([item in known for item in shuffled])))
    return result


def _measured(scores: np.ndarray, relevant: np.ndarray) -> tuple[float, float, float]:
    gains = relevant[np.argsort(-scores, kind="stable")][:100]
    discount = 1 / np.log2(np.arange(2, len(gains) + 2))
    best = np.cumsum(discount)
    count = int(relevant.sum())
    ndcg100 = (gains * discount).sum() / best[min(count, len(best)) - 1]
    ndcg10 = (gains[:10] * discount[:10]).sum() / best[min(count, 10, len(best)) - 1]
    return float(ndcg100), float(ndcg10), float(gains[:10].sum() / count)


def compared(cells: dict[tuple[str, int], dict[str, Any]], judges: np.ndarray) -> dict[str, Any]:
    """Every method against random on the judging users, by the rule that random's cells are best with on the choosing ones."""
    chooses = ~judges
    of = {
        name: np.stack([cell["users"] for (method, _), cell in sorted(cells.items()) if method == name])
        for name, _ in cells
    }
    reference = of["random"]
    rule = int(np.argmax(reference[:, chooses, :-1, 0].mean((0, 1))))
    table = {}
    for name, values in of.items():
        judged, random = values[:, ~chooses], reference[:, ~chooses]
        row: dict[str, Any] = {"seeds": len(values)}
        for number, metric in enumerate(("NDCG@100", "NDCG@10", "recall@10")):
            row[metric] = round(float(judged[:, :, rule, number].mean()), 4)
            if name not in ("random", "base"):
                found = gains.gain(judged[:, :, rule, number], random[:, :, rule, number])
                row[f"{metric} minus random"] = [round(value, 5) for value in (found.mean, found.low, found.high)]
        row["log-likelihood a token"] = round(float(judged[:, :, -1, 0].mean()), 4)
        row["NDCG@100 by rule"] = {
            label: round(float(judged[:, :, place, 0].mean()), 4) for place, label in enumerate(RULES)
        }
        table[name] = row
    return {
        "users who choose the rule": int(chooses.sum()),
        "users who judge": int((~chooses).sum()),
        "rule": RULES[rule],
        "methods": table,
    }
