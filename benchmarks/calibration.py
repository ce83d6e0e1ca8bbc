"""Measures what a calibration gains: `python benchmarks/calibration.py`, or a part with `--only surrogate movielens tiger bigrec beam`.

surrogate, tiger, bigrec: Games, the released split. It has no times, so the newest items before the validation period are taken to
be the last train item of each user; those before the test period are the validation period. Weights are fitted on
validation users and measured on test users.
movielens: MovieLens-small by its real times, cut at seven moments; each cut is a log of its own with its three slices.
beam: how many of the ten best titles of an exhaustive search the beam finds, with and without the bounds of the prior.
Writes benchmarks/results/calibration.json; CPU seconds are of one thread.
"""

import argparse
import copy
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from benchmarks.games import Games
from benchmarks.machine import machine
from dealrec_core import schema
from dealrec_core.evaluation import calibrating, comparison, metrics
from dealrec_core.language import fine_tuning, language_model
from dealrec_core.language.prompts import Example, Prompter
from dealrec_core.recommenders import baselines, semantic_ids, tiger
from dealrec_core.recommenders.bigrec import BIGRec
from dealrec_core.recommenders.decoding import log_probabilities
from dealrec_core.recommenders.tiger import Tiger
from dealrec_core.samples import calibration, items, split
from dealrec_core.samples.calibration import HALF_LIVES, Priors, Weights, log_shares
from dealrec_core.samples.recommender import Recommender
from dealrec_core.samples.sequences import encode, joined
from dealrec_core.settings.evaluation import EvaluationConfig
from dealrec_core.settings.language import FineTuneConfig, LanguageModelConfig, PromptConfig
from dealrec_core.settings.recommenders import BIGRecConfig, SemanticIdsConfig, TigerConfig
from dealrec_core.settings.samples import SamplesConfig
from dealrec_core.settings.surrogate import SurrogateConfig
from dealrec_core.surrogate import training
from dealrec_core.surrogate.recommender import SurrogateRecommender

ROOT = Path(__file__).resolve().parent.parent
DATA = (ROOT / os.environ.get("DEALREC_DATA", "../shared/data")).resolve()
RESULTS = ROOT / "benchmarks" / "results" / "calibration.json"
EVALUATION = EvaluationConfig()
CUTS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
SASREC = SurrogateConfig(epochs=6)
TIGER = TigerConfig(
    layers=1, heads=4, head_width=32, inner_width=256, history_length=10, batch_size=256, epochs=12, learning_rate=2e-3
)
LANGUAGE_MODEL = LanguageModelConfig(width=96, layers=2, steps=300, batch_size=32, history_length=8)
POPULAR = "recent popularity"
Lists = list[list[str]]


def main() -> None:
    """Makes the parts that are asked for and writes the results."""
    options = _options()
    torch.set_num_threads(1)
    for name in options.only or PARTS:
        start = time.process_time()
        part = PARTS[name](options)
        part |= {"CPU seconds": round(time.process_time() - start), "machine": machine()}
        results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
        results[name] = part
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(name, json.dumps(part, indent=1), flush=True)


def _surrogate(options: argparse.Namespace) -> dict[str, Any]:
    games = Games(DATA / "games")
    learnt, held = (games.sequences(period=period) for period in ("train", "validation"))
    fit = partial(training.train, item_count=len(games.catalogue), seed=0)
    judged = fit(learnt, held, config=SASREC)
    epochs = {"epochs": judged.best.epoch, "patience": judged.best.epoch}
    refitted = fit(joined(learnt, held), held, config=SASREC.model_copy(update=epochs))
    model, served = (SurrogateRecommender(trained.model, games.catalogue.item_ids) for trained in (judged, refitted))
    return _on_games(games, model, served=served, fit_users=options.fit_users, test_users=None)


def _tiger(options: argparse.Namespace) -> dict[str, Any]:
    games = Games(DATA / "games")
    ids = semantic_ids.fit(games.catalogue, config=SemanticIdsConfig(), seed=0)
    held = games.sequences(period="validation", most=1)
    held = held.take(np.arange(0, len(held), max(1, len(held) // 2000)))
    train = games.sequences(period="train", most=1)
    fit = partial(tiger.train, ids=ids, config=TIGER, seed=0, device=torch.device("cpu"))
    judged = fit(train, held)
    first = Tiger("tiger", copy.deepcopy(judged.model), ids, [], TIGER)
    newest = games.sequences(period="validation", most=1)
    known = train.sampled(len(newest), seed=0)  # a refit goes on from the candidate, with as many samples that it knows
    refitted = fit(joined(newest, known), held, initial=judged.model, stop=judged.best_epoch)
    served = Tiger("tiger", refitted.model, ids, [], TIGER)
    users = {"fit_users": options.fit_users, "test_users": options.test_users}
    return {"epochs": judged.best_epoch, **_on_games(games, first, served=served, **users)}


def _bigrec(options: argparse.Namespace) -> dict[str, Any]:
    """The embedded model with a night's defaults, tuned on 1,024 train samples that were drawn at random."""
    games, prompt = Games(DATA / "games"), PromptConfig(items="games", item="game", chosen="played")
    title_of = games.catalogue.title_of
    texts = [[title_of[item] for item in items[-11:]] for items in games.train if len(items) > 1]
    drawn = np.random.default_rng(0).permutation(len(texts))[: 1024 + 256]
    examples = [Example(texts[row][:-1], texts[row][-1], str(row)) for row in drawn]
    with tempfile.TemporaryDirectory() as folder:
        config = LanguageModelConfig()
        language_model.build(Path(folder), games.catalogue.titles, texts, config=config, prompt=prompt, seed=0)
        network, tokenizer = language_model.load(folder, device=torch.device("cpu"))
    prompter = Prompter(tokenizer, prompt)
    tuned = fine_tuning.fine_tune(network, prompter, examples[256:], examples[:256], config=FineTuneConfig(), seed=0)
    print("losses", tuned.losses, tuned.validation_losses, flush=True)
    model = BIGRec("bigrec", tuned.model, tokenizer, games.catalogue, [], BIGRecConfig(prompt=prompt))
    return _on_games(games, model, fit_users=options.fit_users // 2, test_users=options.test_users)


def _on_games(
    games: Games, model: Any, *, fit_users: int, test_users: int | None, served: Any | None = None
) -> dict[str, Any]:
    """Recall of a recommender as it is, calibrated, and of recent popularity, on test users of Games.

    served: the recommender refitted with the validation period, as a night serves it; it gets the fitted weights of `model`.
    """
    before, now = (
        replace(_games_priors(games, newest), titles=model.title_chances)
        for newest in ([items[-1:] for items in games.train], games.valid)
    )
    held = [
        (str(user), past, list(dict.fromkeys(after)))
        for user, (past, after) in enumerate(zip(games.train, games.valid, strict=True))
        if past and after
    ]
    users = pl.DataFrame(held, schema=[schema.USER_ID, schema.HISTORY, "targets"], orient="row")
    fitted = calibrating.fit(model, users.sample(fit_users, seed=0), before, EVALUATION, seed=0)
    cases = games.cases()[:test_users]
    recent = baselines.popularity(games.log(games.valid))
    histories = cases[schema.HISTORY].to_list()
    lists = {
        "plain": model.recommend(histories, 20),
        "calibrated": replace(model, calibration=now.calibration(fitted.weights)).recommend(histories, 20),
        POPULAR: recent.recommend(histories, 20),
    }
    if served is not None:
        learnt = [[*before, *after] for before, after in zip(games.train, games.valid, strict=True)]
        priors = _games_priors(games, games.valid, learnt)
        lists["refitted"] = replace(served, calibration=priors.calibration(fitted.weights)).recommend(histories, 20)
    return {"fit": fitted.facts(), **_compared(lists, cases["targets"].to_list())}


def _games_priors(games: Games, newest: Lists, learnt: Lists | None = None) -> Priors:
    """The priors of Games; without times all half-lives have the same recent share. learnt: the train period by default."""
    train, recent = (
        log_shares(np.bincount([games.catalogue.place[item] for part in parts for item in part], minlength=size))
        for parts, size in ((learnt or games.train, len(games.catalogue)), (newest, len(games.catalogue)))
    )
    return Priors(games.catalogue.item_ids, train, dict.fromkeys(HALF_LIVES, recent))


def _movielens(_: argparse.Namespace) -> dict[str, Any]:
    log = _ratings()
    fits, targets = [], []
    lists: dict[str, list[list[str]]] = {name: [] for name in ("plain", "calibrated", "recent popularity", "item knn")}
    for share in CUTS:
        part = log[: int(len(log) * share)]
        bounds = split.boundaries(part.lazy(), SamplesConfig(), not_before=None)
        shifted = bounds.model_copy(update={"test_start": bounds.validation_start, "end": bounds.test_start})
        held, cases = (split.cases(part.lazy(), b, history_length=50, users=None, seed=0) for b in (shifted, bounds))
        past = part.filter(pl.col(schema.TIMESTAMP) < bounds.test_start)
        recent = past.filter(pl.col(schema.TIMESTAMP) >= bounds.validation_start)
        item_ids = items.catalogue(pl.DataFrame(schema=schema.ITEMS), past).item_ids
        model = _trained(part, bounds, item_ids)
        length = bounds.test_start - bounds.validation_start
        before, now = (
            calibration.priors(past, item_ids, trained_until=bounds.validation_start, now=moment, length=length)
            for moment in (bounds.validation_start, bounds.test_start)
        )
        fitted = calibrating.fit(model, held, before, EVALUATION, seed=0)
        fits.append({"until": str(bounds.end.date()), "cases": len(cases), **fitted.facts()})
        made: dict[str, Recommender] = {
            "plain": model,
            "calibrated": replace(model, calibration=now.calibration(fitted.weights)),
            POPULAR: baselines.popularity(recent),
            "item knn": baselines.item_knn(past),
        }
        for name, recommender in made.items():
            lists[name] += recommender.recommend(cases[schema.HISTORY].to_list(), 20)
        targets += cases["targets"].to_list()
        print(fits[-1], flush=True)
    return {"fits": fits, **_compared(lists, targets)}


def _ratings() -> pl.DataFrame:
    """Ratings of 4 and more as a log, in order of time."""
    ratings = pl.read_csv(DATA / "movielens-small" / "ratings.csv", truncate_ragged_lines=True)
    liked = ratings.filter(pl.col("rating") >= 4).sort("timestamp", "userId", "movieId").with_row_index("row")
    return liked.select(
        pl.col("userId").cast(pl.String).alias(schema.USER_ID),
        pl.col("movieId").cast(pl.String).alias(schema.ITEM_ID),
        pl.from_epoch("timestamp").cast(schema.UTC_TIME).alias(schema.TIMESTAMP),
        pl.col("row").cast(pl.String).alias(schema.EVENT_ID),
    )


SLICES: tuple[split.Split, ...] = ("train", "validation")


def _trained(log: pl.DataFrame, bounds: split.Boundaries, item_ids: list[str]) -> SurrogateRecommender:
    samples = split.build(log.lazy(), SamplesConfig(history_length=50))
    parts = [encode(split.split(samples.lazy(), bounds, which).collect(), item_ids) for which in SLICES]
    config = SurrogateConfig(epochs=12, history_length=50)
    return SurrogateRecommender(training.train(*parts, item_count=len(item_ids), config=config, seed=0).model, item_ids)


def _beam(options: argparse.Namespace) -> dict[str, Any]:
    """A BIGRec of a small model on MovieLens's titles, against scoring every title; counts up to the last cut are the prior."""
    movies = pl.read_csv(DATA / "movielens-small" / "movies.csv", truncate_ragged_lines=True)
    named = movies.select(pl.col("movieId").cast(pl.String).alias(schema.ITEM_ID), pl.col("title").alias(schema.TITLE))
    log = _ratings()
    listed = named.with_columns(pl.lit([], dtype=pl.List(pl.String)).alias(schema.CATEGORIES))
    catalogue = items.catalogue(listed.join(log, on=schema.ITEM_ID, how="semi"), log)
    past = (
        log.group_by(schema.USER_ID, maintain_order=True).agg(pl.col(schema.ITEM_ID).tail(9))[schema.ITEM_ID].to_list()
    )
    prompt = PromptConfig(items="movies", item="movie", chosen="watched")
    with tempfile.TemporaryDirectory() as folder:
        texts = [[catalogue.title_of[item] for item in history] for history in past]
        language_model.build(Path(folder), catalogue.titles, texts, config=LANGUAGE_MODEL, prompt=prompt, seed=0)
        model, tokenizer = language_model.load(folder, device=torch.device("cpu"))
    recommender = BIGRec("bigrec", model.eval(), tokenizer, catalogue, [], BIGRecConfig(prompt=prompt))
    recent = log_shares(np.array([items.interaction_counts(log.lazy()).get(item, 0.0) for item in catalogue.item_ids]))
    priors = Priors(catalogue.item_ids, recent, dict.fromkeys(HALF_LIVES, recent))
    histories = [history[:8] for history in past[: options.beam_users]]
    exact = _exhaustive(recommender, histories)
    return {"titles": len(catalogue), "users": len(histories), "beams": recommender.config.beams} | {
        f"beta {beta:g}": _found(recommender, histories, exact, priors, Weights(beta=beta))
        for beta in (0.0, 0.5, 1.0, 2.0)
    }


def _exhaustive(recommender: BIGRec, histories: Lists) -> np.ndarray:
    """Log probability of every title after each history, (U, V)."""
    title_of, prompter, answers = recommender.catalogue.title_of, recommender._prompter, recommender._answers
    prompts = [prompter.prompt([title_of[item] for item in history]) for history in histories]
    return np.array([log_probabilities(recommender.model, prompt, answers, batch_size=256) for prompt in prompts])


def _found(
    recommender: BIGRec, histories: Lists, exact: np.ndarray, priors: Priors, weights: Weights
) -> dict[str, float]:
    """Share of the exhaustive ten best that the beam finds, and that ordering the beam's own 20 afterwards finds."""
    added, place = priors.added(weights), recommender.catalogue.place
    best = [set(np.argsort(-(row + added), kind="stable")[:10].tolist()) for row in exact]
    lists = recommender.scored(histories, 10, priors.calibration(weights))
    ranked = [[place[item] for item, _ in ranking] for ranking in lists]
    plain = [{place[item]: score for item, score in ranking} for ranking in recommender.scored(histories, 20, None)]
    after = [sorted(pool, key=lambda item: -(pool[item] + added[item]))[:10] for pool in plain]
    share = {"in the beam": ranked, "ordered afterwards": after}
    return {
        name: round(float(np.mean([len(best[user] & set(made[user])) / 10 for user in range(len(best))])), 4)
        for name, made in share.items()
    }


def _compared(lists: dict[str, Lists], targets: Lists) -> dict[str, Any]:
    """Mean recall of all lists, and paired differences of the calibrated ones with 95% intervals over users."""
    values = {
        f"recall@{k}": {name: metrics.recall(made, targets, k=k) for name, made in lists.items()} for k in (10, 20)
    }
    found: dict[str, Any] = {"users": len(targets)}
    for metric, by_name in values.items():
        found[metric] = {name: round(float(recall.mean()), 4) for name, recall in by_name.items()}
        for ours, theirs in product(("calibrated", "refitted"), by_name):
            if ours in by_name and ours != theirs:
                gap = comparison.difference(by_name[ours], by_name[theirs], resamples=2000, seed=0)
                found[f"{metric}, {ours} minus {theirs}"] = [round(value, 4) for value in (gap.mean, gap.low, gap.high)]
    return dict(sorted(found.items()))


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "surrogate": _surrogate,
    "movielens": _movielens,
    "beam": _beam,
    "tiger": _tiger,
    "bigrec": _bigrec,
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=PARTS, help="make these parts only")
    parser.add_argument("--fit-users", type=int, default=2000, help="validation users of a fit")
    parser.add_argument("--test-users", type=int, help="test users of TIGER and BIGRec; all 8,696 by default")
    parser.add_argument("--beam-users", type=int, default=16)
    return parser.parse_args()


if __name__ == "__main__":
    main()
