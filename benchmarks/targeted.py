"""Which rule chooses a coreset that beats a random one: `python benchmarks/targeted.py --data <folder of data sets>`.

The learner is a proxy with a base, as a language model has one: a SASRec of width 32 that has learnt the older halves of all
histories and is tuned on 2% of the samples (AdamW at 1e-3, at most 6 epochs, the epoch with the best uncut DCG on recent samples).
Users with a future are split once. Rules are compared on one half; then `--judge RULE` compares one rule, tuned with new seeds, with
random and dsir on the other half. With `--beside` every tuning also learns newest samples, as those of a night do. The measure is
NDCG@100 over the whole catalogue. Intervals are of the paired difference over users, with the variance between seeds added, by t with
as many degrees of freedom as seeds allow.

Data: the released Games split; the ratings of 4 and more of MovieLens-small, each user's events cut 8:1:1; and `synthetic`, the
control: users draw from the tastes of their group at random, so nothing drifts and there is nothing recent to follow. Writes
benchmarks/results/targeted.json; cells are kept in var/targeted/.
"""

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from scipy.stats import t as student
from torch.nn import functional

from benchmarks.games import Games
from benchmarks.machine import machine
from benchmarks.quota import best_of_each, quotas
from dealrec_core import influence
from dealrec_core.coreset import targeted
from dealrec_core.coreset.base import highest
from dealrec_core.coreset.combine import normalise
from dealrec_core.coreset.dsir import log_weights
from dealrec_core.coreset.traits import categories
from dealrec_core.samples.items import Catalogue
from dealrec_core.samples.sequences import Sequences, joined
from dealrec_core.settings.influence import InfluenceConfig
from dealrec_core.settings.surrogate import SurrogateConfig
from dealrec_core.surrogate import training
from dealrec_core.surrogate.logits import blocks

RESULTS = Path(__file__).resolve().parent / "results" / "targeted.json"
CELLS = Path(__file__).resolve().parent.parent / "var" / "targeted"
DATASETS = ("games", "movielens", "synthetic")
HISTORY, SHARE, RECENT, EPOCHS = 20, 0.02, 4000, 6
WIDTH = 32
STOPPING = 2000
"""Recent samples that stop a tuning."""
SEEDS, OF_RANDOM, NEW = 6, 10, 100
"""Seeds of a rule, seeds of the random one, and the first seed of the rule that is judged."""


@dataclass(frozen=True)
class Log:
    """A log in three periods: items (V) with categories, and the item numbers of each user by period."""

    category: np.ndarray
    users: list[tuple[list[int], list[int], list[int]]]
    every_step: bool
    """Whether each step of a user is a sample to choose, or the last one only."""

    @cached_property
    def pool(self) -> tuple[Sequences, np.ndarray]:
        """The samples to choose from, and their users."""
        steps = [
            (train[:at], train[at], user)
            for user, (train, _, _) in enumerate(self.users)
            for at in range(1 if self.every_step else max(1, len(train) - 1), len(train))
        ]
        return sequences([step[:2] for step in steps]), np.array([user for *_, user in steps])

    @cached_property
    def recent(self) -> Sequences:
        """Samples of the validation period, at most RECENT."""
        steps = [
            ([*train, *valid][: len(train) + at], item)
            for train, valid, _ in self.users
            for at, item in enumerate(valid if self.every_step else valid[:1])
            if len(train) + at
        ]
        return sequences(steps).sampled(RECENT, seed=0)

    @cached_property
    def past(self) -> Sequences:
        """All that the base knows: the steps of the older half of each user's train period."""
        return sequences(
            [
                (half[:at], half[at])
                for train, _, _ in self.users
                for half in [train[: len(train) // 2 + 1]]
                for at in range(1, len(half))
            ]
        )

    @cached_property
    def cases(self) -> tuple[Sequences, list[set[int]], np.ndarray]:
        """Users with a future: history (as samples), items of the test period, and whether the user judges or chooses."""
        cases = [([*train, *valid], test) for train, valid, test in self.users if test and (train or valid)]
        judges = np.random.default_rng(17).permutation(len(cases)) % 2 == 1
        return sequences([(history, test[0]) for history, test in cases]), [set(test) for _, test in cases], judges


def sequences(steps: list[tuple[list[int], int]]) -> Sequences:
    """The newest items of each history, and the next item."""
    cut = [history[-HISTORY:] for history, _ in steps]
    offsets = np.concatenate([[0], np.cumsum([len(history) for history in cut])])
    return Sequences(
        np.array([item for history in cut for item in history]), offsets, np.array([item for _, item in steps])
    )


def read(name: str, data: Path) -> Log:
    """The log of that name."""
    if name != "games":
        return movielens(data / "movielens-small") if name == "movielens" else synthetic()
    games = Games(data / "games")
    place, numbers = games.catalogue.place, categories(games.catalogue)
    category = np.array([numbers[item] for item in games.catalogue.item_ids])
    first, second, third = (
        [[place[item] for item in user] for user in part] for part in (games.train, games.valid, games.test)
    )
    users = list(zip(first, second, third, strict=True))
    return Log(category, users, every_step=False)


def movielens(folder: Path) -> Log:
    """Ratings of 4 and more in order of time, each user's cut 8:1:1; the category of a film is its first genre."""
    ratings = pl.read_csv(folder / "ratings.csv", truncate_ragged_lines=True).filter(pl.col("rating") >= 4)
    films = pl.read_csv(folder / "movies.csv").sort("movieId")
    ids = [str(film) for film in films["movieId"]]
    catalogue = Catalogue(ids, ids, [genres.split("|")[:1] for genres in films["genres"]])
    users = []
    for _, rows in ratings.sort("userId", "timestamp", "movieId").group_by("userId", maintain_order=True):
        users.append(cut([catalogue.place[str(film)] for film in rows["movieId"]]))
    numbers = categories(catalogue)
    return Log(np.array([numbers[item] for item in ids]), users, every_step=True)


def synthetic(users: int = 3000, items: int = 600, groups: int = 6) -> Log:
    """Users of a group who draw twelve different items, a Zipf-like popularity times nine tenths of a taste for their group."""
    random = np.random.default_rng(3)
    category = np.arange(items) % groups
    popularity = 1 / np.arange(1, items + 1) ** 0.8
    events = []
    for group in random.integers(groups, size=users):
        chances = popularity * np.where(category == group, 0.9, 0.1 / (groups - 1))
        events.append(cut(random.choice(items, 12, replace=False, p=chances / chances.sum()).tolist()))
    return Log(category, events, every_step=True)


def cut(events: list[int]) -> tuple[list[int], list[int], list[int]]:
    """The first 8, the next 1 and the last 1 of ten parts."""
    first, second = int(0.8 * len(events)), int(0.9 * len(events))
    return events[:first], events[first:second], events[second:]


class Bench:
    """The base, the influence and the pool of a log; all cells of the log share them."""

    def __init__(self, name: str, data: Path) -> None:
        self.name, self.log = name, read(name, data)
        self.pool, self.owner = self.log.pool
        self.items = len(self.log.category)
        self.budget = round(SHARE * len(self.pool))
        self.base = self._kept("base", self._base)

    def _kept(self, what: str, make: Callable[[], Any]) -> Any:
        path = CELLS / f"{self.name}-{what}.pt"
        if not path.exists():
            CELLS.mkdir(parents=True, exist_ok=True)
            torch.save(make(), path)
        return torch.load(path, weights_only=False)

    def _base(self) -> Any:
        past = self.log.past
        held = np.random.default_rng(5).random(len(past)) < 0.05
        config = SurrogateConfig(width=WIDTH, history_length=HISTORY, epochs=8, patience=2)
        parts = (past.take(np.flatnonzero(~held)), past.take(np.flatnonzero(held)))
        return training.train(*parts, item_count=self.items, config=config, seed=0).model

    def influence(self, objective: str) -> np.ndarray:
        """Scores by the surrogate of a night at its default settings, but of width 32."""

        def surrogate() -> Any:
            config = SurrogateConfig(width=WIDTH, history_length=HISTORY, epochs=12, patience=2)
            return training.train(self.pool, self.log.recent, item_count=self.items, config=config, seed=0).model

        def scores() -> dict[str, Any]:
            started = time.process_time()
            model = self._kept("surrogate", surrogate)
            most = 8192 if self.log.every_step else None  # a curvature of long histories costs minutes
            config = InfluenceConfig.model_validate({"objective": objective, "curvature_samples": most})
            result = influence.score(model, self.pool, self.log.recent, config=config, seed=0)
            return {"scores": result.scores, "counted": result.risk_count, "cpu_s": time.process_time() - started}

        kept = self._kept(f"influence-{objective}", scores)
        print(self.name, objective, kept["counted"], "risk samples count", round(kept["cpu_s"]), "CPU s", flush=True)
        return kept["scores"]

    def chosen(self, rule: str, seed: int) -> np.ndarray:
        """Rows that a rule chooses."""
        targets, recent, random = self.pool.targets, self.log.recent.targets, np.random.default_rng(seed)
        luck = random.gumbel(size=len(targets))
        name, _, objective = rule.partition("+")
        rank = normalise(self.influence(objective), "rank") if objective else np.zeros(len(targets))
        if name == "random":
            return highest(luck, self.budget)
        if name == "dsir":
            return highest(log_weights(targets, recent) + targeted.INFLUENCE_WEIGHT * rank + luck, self.budget)
        quota = quotas(targets, recent, category=self.log.category, budget=self.budget, random=random)
        return best_of_each(targets, np.argsort(-(rank if objective else luck), kind="stable"), quota)

    def cell(self, rule: str, seed: int) -> dict[str, np.ndarray]:
        """NDCG@100 and @10 of each user after tuning on the rule's coreset, from disk where it is there."""

        def make() -> dict[str, Any]:
            started = time.process_time()
            rows = np.arange(0) if rule == "base" else self.chosen(rule, seed)
            stopping = self.log.recent.sampled(STOPPING, seed=1)
            model = tuned(self.base, self.pool.take(rows), stopping, seed=seed)
            histories, targets, _ = self.log.cases
            return {**ndcg(model, histories, targets), "rows": rows, "cpu_s": time.process_time() - started}

        cell = self._kept(f"cell-{rule}-{seed}", make)
        print(self.name, rule, seed, f"{cell['cpu_s']:.1f} s", flush=True)
        return cell


class Beside(Bench):
    """The bench where every tuning also learns newest samples, as many as the coreset has.

    Recent samples are cut in halves, as in a night: one half is learnt, the other chooses the epoch.
    """

    def __init__(self, name: str, data: Path) -> None:
        super().__init__(name, data)
        order, half = np.random.default_rng(23).permutation(len(self.log.recent)), len(self.log.recent) // 2
        self.learnable, self.kept_back = (self.log.recent.take(np.sort(part)) for part in (order[:half], order[half:]))

    def newest(self, count: int, seed: int) -> Sequences:
        """Samples of the learnable half, drawn at random."""
        rows = np.random.default_rng(1000 + seed).permutation(len(self.learnable))[:count]
        return self.learnable.take(np.sort(rows))

    def cell(self, rule: str, seed: int) -> dict[str, np.ndarray]:
        """As for `Bench`. Rule none learns newest samples alone, and newest learns twice as many of them."""
        if rule == "base":
            return super().cell(rule, seed)

        def make() -> dict[str, Any]:
            started = time.process_time()
            rows = np.arange(0) if rule in ALONE else self.chosen(rule, seed)
            newest = self.newest(self.budget * (2 if rule == "newest" else 1), seed)
            model = tuned(
                self.base, joined(self.pool.take(rows), newest), self.kept_back.sampled(STOPPING, seed=1), seed=seed
            )
            histories, targets, _ = self.log.cases
            return {**ndcg(model, histories, targets), "rows": rows, "cpu_s": time.process_time() - started}

        cell = self._kept(f"beside-{rule}-{seed}", make)
        print(self.name, "beside", rule, seed, f"{cell['cpu_s']:.1f} s", flush=True)
        return cell


def tuned(base: Any, coreset: Sequences, recent: Sequences, *, seed: int) -> Any:
    """The base after at most EPOCHS over the coreset; the epoch of the best uncut DCG on the recent samples, 0 included."""
    model = copy.deepcopy(base)
    best, kept = dcg(model, recent), copy.deepcopy(model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    torch.manual_seed(seed)
    for _ in range(EPOCHS if len(coreset) else 0):
        model.train()
        batches = list(coreset.batches(32 * HISTORY))
        for place in torch.randperm(len(batches)):
            _, histories, targets = batches[place]
            table = model.item_table()
            loss = functional.cross_entropy(model.last(histories, table) @ table.T, targets, reduction="sum") / 32
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
        now = dcg(model, recent)
        if now > best:
            best, kept = now, copy.deepcopy(model)
    return kept


@torch.no_grad()
def dcg(model: Any, samples: Sequences) -> float:
    """Mean of 1 / log2(rank + 2) over the whole catalogue."""
    total = 0.0
    for block in blocks(model, samples):
        ranks = (block.logits > block.logits.gather(1, block.targets)).sum(1)
        total += (1 / torch.log2(ranks + 2)).sum().item()
    return total / len(samples)


def ndcg(model: Any, histories: Sequences, targets: list[set[int]]) -> dict[str, np.ndarray]:
    """NDCG@100 and @10 of each user's list over the whole catalogue, (U,)."""
    discount = 1 / np.log2(np.arange(2, 102))
    best, gains = np.cumsum(discount), {f"ndcg@{k}": np.empty(len(targets)) for k in (100, 10)}
    for block in blocks(model, histories):
        for row, ranking in zip(block.rows, block.logits.topk(100).indices.tolist(), strict=True):
            hits = np.array([item in targets[row] for item in ranking]) * discount
            for k in (100, 10):
                gains[f"ndcg@{k}"][row] = hits[:k].sum() / best[min(len(targets[row]), k) - 1]
    return gains


def gain(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Mean difference of (S, U) and (R, U) over the same users, with a 95% interval over users and seeds."""
    gaps = first.mean(0) - second.mean(0)
    of_seeds = [values.mean(1).var(ddof=1) / len(values) for values in (first, second)]
    error = float(np.sqrt(gaps.var(ddof=1) / len(gaps) + sum(of_seeds)))
    reach = float(student.ppf(0.975, min(len(first), len(second)) - 1)) * error
    mean = float(gaps.mean())
    return {"gain": round(mean, 5), "low": round(mean - reach, 5), "high": round(mean + reach, 5)}


def compared(bench: Bench, seeds: dict[str, range], *, judges: bool) -> dict[str, Any]:
    """Each rule's figures on the users who judge or on the others, and its gains over every rule named before it."""
    mine = bench.log.cases[2] == judges
    for place in range(OF_RANDOM):  # seeds outermost: a run that is stopped has whole comparisons
        for rule, wanted in seeds.items():
            if place < len(wanted):
                bench.cell(rule, wanted[place])
    cells = {rule: [bench.cell(rule, seed) for seed in wanted] for rule, wanted in seeds.items()}
    base = bench.cell("base", 0)
    table: dict[str, Any] = {"samples": len(bench.pool), "chosen": bench.budget, "users": int(mine.sum())}
    table["base"] = {measure: round(float(base[measure][mine].mean()), 5) for measure in ("ndcg@100", "ndcg@10")}
    for at, rule in enumerate(seeds):
        seconds = float(np.mean([cell["cpu_s"] for cell in cells[rule]]))
        table[rule] = {"seeds": len(cells[rule]), "cpu_s": round(seconds, 1)}
        for measure in ("ndcg@100", "ndcg@10"):
            values = {name: np.stack([cell[measure][mine] for cell in cells[name]]) for name in seeds}
            table[rule][measure] = round(float(values[rule].mean()), 5)
            table[rule][f"{measure} minus"] = {other: gain(values[rule], values[other]) for other in list(seeds)[:at]}
    return table


ALONE = ("none", "newest")
"""Rules of `Beside` that choose no coreset."""
RULES = ("dsir", "dsir+ranking", "quota", "quota+ranking")


def main() -> None:
    """Runs the cells that are not there yet, prints and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(DATASETS), choices=DATASETS)
    parser.add_argument("--rules", nargs="*", default=RULES, choices=RULES)
    parser.add_argument("--seeds", type=int, nargs=2, default=(SEEDS, OF_RANDOM), help="of a rule, and of random")
    parser.add_argument("--beside", action="store_true", help="every tuning also learns newest samples")
    parser.add_argument("--judge", help="the rule to judge, after the others have been compared")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.only:
        bench = (Beside if options.beside else Bench)(name, options.data)
        count, of_random = options.seeds
        seeds = {"random": range(of_random)}
        if options.judge:
            seeds |= {"dsir": range(count), options.judge: range(NEW, NEW + count)}
        else:
            rules = (*ALONE, *options.rules) if options.beside else options.rules
            seeds |= dict.fromkeys(rules, range(count))
        table = compared(bench, seeds, judges=bool(options.judge))
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"machine": machine()}
        part = "judged" if options.judge else "compared"
        results.setdefault(f"{part} beside newest samples" if options.beside else part, {})[name] = table
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        json.dump(table, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
