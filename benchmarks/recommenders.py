"""The recommenders side by side on Games: `python benchmarks/recommenders.py`, or one at a time with `--only tiger`.

The released split: models learn on the train period and stop by the validation period; the test period is ranked over
the whole catalogue, per user, seen items kept. The lists of 500 users at a time, in random order, are kept in the work
folder, and both language models keep checkpoints, so a killed run goes on. The table of the users whom every recommender
has answered, of those that have lists, goes to benchmarks/results/recommenders.json and into docs/recommenders.md; rows
that the results hold already for as many users stay.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from benchmarks.games import Games
from benchmarks.machine import machine
from dealrec_core import schema
from dealrec_core.evaluation import comparison, metrics
from dealrec_core.language import language_model
from dealrec_core.language.fine_tuning import fine_tune
from dealrec_core.language.prompts import Example, Prompter
from dealrec_core.recommenders import baselines, semantic_ids, tiger
from dealrec_core.recommenders.bigrec import BIGRec, title_ndcg
from dealrec_core.recommenders.tiger import Tiger
from dealrec_core.samples.recommender import Recommender
from dealrec_core.settings.language import FineTuneConfig, LanguageModelConfig, LoraConfig, PromptConfig
from dealrec_core.settings.recommenders import BIGRecConfig, SemanticIdsConfig, TigerConfig
from dealrec_core.settings.surrogate import SurrogateConfig
from dealrec_core.surrogate import training
from dealrec_core.surrogate.recommender import SurrogateRecommender

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "recommenders.json"
PAGE = ROOT / "docs" / "recommenders.md"
BEGIN, END = "<!-- table: benchmarks/recommenders.py -->", "<!-- end of table -->"
CPU = torch.device("cpu")
K = 20
PART = 500
PROMPT = PromptConfig(items="game products", item="game product")
SASREC = SurrogateConfig(epochs=12)
TIGER = TigerConfig(layers=2, heads=4, head_width=32, inner_width=512, history_length=10, batch_size=256, epochs=6)
LANGUAGE_MODEL = LanguageModelConfig(width=192, layers=3, steps=1600, batch_size=32, history_length=8)
FINE_TUNE = FineTuneConfig(
    lora=LoraConfig(modules="all"), epochs=2, learning_rate=1e-3, batch_size=32, validation_examples=256
)


def main() -> None:
    """Makes the lists that are not there yet, then the table."""
    options = _options()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    games = Games((ROOT / os.environ.get("DEALREC_DATA", "../shared/data")).resolve() / "games")
    cases = games.cases()[: options.users]
    for name in options.only or MAKERS:
        _make(name, games, cases, options.work)
    _report(games, cases, options.work)


def _make(name: str, games: Games, cases: pl.DataFrame, work: Path) -> None:
    """The lists of one recommender, a part of the users at a time; parts that are there are kept."""
    folder, made = work / name, None
    folder.mkdir(exist_ok=True)
    for start in range(0, len(cases), PART):
        path = folder / f"lists-{start:05d}.parquet"
        if path.exists():
            continue
        if made is None:
            since = time.process_time()
            made = MAKERS[name](games, work)
            print(f"{name}: made in {time.process_time() - since:.0f} CPU seconds", flush=True)
        part = cases[start : start + PART]
        lists = pl.Series("items", made.recommend(part[schema.HISTORY].to_list(), K), dtype=pl.List(pl.String))
        part.select(schema.USER_ID).with_columns(lists).write_parquet(path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)
        print(f"{name}: users to {start + len(part)}, {time.process_time() - since:.0f} CPU seconds", flush=True)


def _popularity(games: Games, _: Path) -> Recommender:
    return baselines.popularity(games.log(games.train))


def _recent_popularity(games: Games, _: Path) -> Recommender:
    return baselines.popularity(games.log(games.valid))


def _item_knn(games: Games, _: Path) -> Recommender:
    return baselines.item_knn(games.log(games.train, games.valid))


def _popular(games: Games) -> list[str]:
    return baselines.popularity(games.log(games.train, games.valid)).item_ids


def _sasrec(games: Games, _: Path) -> Recommender:
    trained = training.train(
        games.sequences(period="train", most=50),
        games.sequences(period="validation", most=50),
        item_count=len(games.catalogue),
        config=SASREC,
        seed=0,
    )
    return SurrogateRecommender(trained.model, games.catalogue.item_ids, popular=_popular(games))


def _tiger(games: Games, work: Path) -> Recommender:
    ids = semantic_ids.fit(games.catalogue, config=SemanticIdsConfig(), seed=0)
    held = games.sequences(period="validation", most=1)
    trained = tiger.train(
        games.sequences(period="train", most=2),
        held.take(np.arange(0, len(held), max(1, len(held) // 4000))),
        ids,
        config=TIGER,
        seed=0,
        device=CPU,
        checkpoint_folder=work / "tiger",
    )
    return Tiger("tiger", trained.model, ids, _popular(games), TIGER)


def _bigrec(games: Games, work: Path) -> Recommender:
    title_of = games.catalogue.title_of
    texts = [[title_of[item] for item in items] for items in games.train]
    base = work / "base"
    if not (base / "READY").exists():
        old = [items[:-1] for items in texts]  # the last item of everybody is left to fine-tuning
        known = games.log(games.train, games.valid)[schema.ITEM_ID].unique().to_list()
        titles = [title_of[item] for item in known]
        language_model.build(base, titles, old, config=LANGUAGE_MODEL, prompt=PROMPT, seed=0)
        (base / "READY").touch()
    model, tokenizer = language_model.load(str(base), device=CPU)
    config = BIGRecConfig(prompt=PROMPT, history_length=10)
    random = np.random.default_rng(0)
    last = [Example(items[-11:-1], items[-1]) for items in texts if len(items) > 1]
    chosen = [last[row] for row in np.sort(random.choice(len(last), 4096, replace=False))]
    valid = [
        Example([title_of[item] for item in before[-10:]], title_of[after[0]])
        for before, after in zip(games.train, games.valid, strict=True)
        if before and after
    ]
    held = [valid[row] for row in np.sort(random.choice(len(valid), FINE_TUNE.validation_examples, replace=False))]
    tuned = fine_tune(
        model,
        Prompter(tokenizer, PROMPT),
        chosen,
        held,
        config=FINE_TUNE,
        seed=0,
        quality=title_ndcg(tokenizer, held, games.catalogue.titles, config=config),
        checkpoint_folder=work / "bigrec",
    )
    return BIGRec("bigrec", tuned.model.merge_and_unload(), tokenizer, games.catalogue, _popular(games), config)


MAKERS: dict[str, Callable[[Games, Path], Recommender]] = {
    "popularity": _popularity,
    "recent popularity": _recent_popularity,
    "item knn": _item_knn,
    "sasrec": _sasrec,
    "tiger": _tiger,
    "bigrec": _bigrec,
}


def _report(games: Games, cases: pl.DataFrame, work: Path) -> None:
    """The table of all recommenders that have lists, over the users whom each of these has answered."""
    parts = {name: sorted((work / name).glob("lists-*.parquet")) for name in MAKERS}
    found = {name: pl.concat(map(pl.read_parquet, paths)) for name, paths in parts.items() if paths}
    for made in found.values():
        cases = cases.join(made.select(schema.USER_ID), on=schema.USER_ID, how="semi", maintain_order="left")
    targets = cases["targets"].to_list()
    rows, plain = {}, None
    for name, made in found.items():
        lists = cases.join(made, on=schema.USER_ID, maintain_order="left")["items"].to_list()
        values = {
            "recall@10": metrics.recall(lists, targets, k=10),
            "recall@20": metrics.recall(lists, targets, k=20),
            "ndcg@10": metrics.ndcg(lists, targets, k=10),
            "ndcg@20": metrics.ndcg(lists, targets, k=20),
        }
        plain = values["recall@10"] if plain is None else plain
        row: dict[str, Any] = {metric: _interval(found, np.zeros(len(found))) for metric, found in values.items()}
        row["recall@10 more than popularity"] = _interval(values["recall@10"], plain)
        row["coverage@10"] = round(metrics.coverage(lists, item_count=len(games.catalogue), k=10), 4)
        rows[name] = row
    before = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    if before.get("users") == len(cases):  # the same users: what their lists gave then still stands
        rows = {name: rows.get(name) or before["recommenders"].get(name) for name in MAKERS}
        rows = {name: row for name, row in rows.items() if row is not None}
    result = {
        "machine": machine(),
        "users": len(cases),
        "seen items": "kept",
        "settings": {
            "sasrec": SASREC.model_dump(),
            "tiger": TIGER.model_dump(),
            "language model": LANGUAGE_MODEL.model_dump(),
            "fine-tuning": FINE_TUNE.model_dump(),
        },
        "recommenders": rows,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    _write_table(rows, users=len(cases))


def _interval(first: np.ndarray, second: np.ndarray) -> list[float]:
    """Mean difference, then the lower and upper end of its 95% interval."""
    found = comparison.difference(first, second, resamples=2000, seed=0)
    return [round(value, 5) for value in (found.mean, found.low, found.high)]


def _write_table(rows: dict[str, dict], *, users: int) -> None:
    columns = ["recall@10", "recall@20", "ndcg@10", "recall@10 more than popularity"]
    lines = [f"| {users:,} users | {' | '.join(columns)} | coverage@10 |", "|---" * (len(columns) + 2) + "|"]
    for name, row in rows.items():
        cells = [f"{row[column][0]:.4f} [{row[column][1]:.4f}, {row[column][2]:.4f}]" for column in columns]
        lines.append(f"| {name} | {' | '.join(cells)} | {row['coverage@10']:.3f} |")
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{chr(10).join(lines)}\n{END}{rest.split(END)[1]}", encoding="utf-8")
    print("\n".join(lines))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=MAKERS, help="make these lists only")
    parser.add_argument("--users", type=int, default=None, help="so many of the test users; all by default")
    parser.add_argument("--work", type=Path, default=ROOT / "var" / "benchmarks" / "recommenders")
    return parser.parse_args()


if __name__ == "__main__":
    main()
