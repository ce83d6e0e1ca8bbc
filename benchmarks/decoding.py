"""How long recommending takes on Games, CPU seconds of one thread: `python benchmarks/decoding.py [--users 96]`.

BIGRec by trie (20 beams over all titles) and TIGER (20 beams over all codes), on models of the sizes of recommenders.py
and of the default network; hardly trained, which changes the answers but hardly the time. Uses what earlier versions
have too, so that copied into an older checkout it tells what that one took. Writes benchmarks/results/decoding.json.
"""

import argparse
import hashlib
import json
import os
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.games import Games
from benchmarks.machine import machine
from benchmarks.recommenders import LANGUAGE_MODEL, PROMPT
from dealrec_core.language import language_model
from dealrec_core.recommenders import semantic_ids, tiger
from dealrec_core.recommenders.bigrec import BIGRec
from dealrec_core.recommenders.tiger import Tiger
from dealrec_core.samples.recommender import Recommender
from dealrec_core.settings.recommenders import BIGRecConfig, SemanticIdsConfig, TigerConfig

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "decoding.json"


def main() -> None:
    """Measures, prints and writes the results."""
    options = _options()
    torch.set_num_threads(1)
    games = Games((ROOT / os.environ.get("DEALREC_DATA", "../shared/data")).resolve() / "games")
    histories = games.cases()["history"].to_list()[: options.users]
    found = {"machine": machine(), "users": len(histories)}
    for made in (_bigrec(games), _tiger(games)):
        made.recommend(histories[:2], 20)  # the tries are made once
        start = time.process_time()
        lists = made.recommend(histories, 20)
        seconds = round(time.process_time() - start, 2)
        found[made.name] = {"CPU seconds": seconds, "lists": hashlib.sha256(repr(lists).encode()).hexdigest()[:12]}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


def _bigrec(games: Games) -> Recommender:
    catalogue, config = games.catalogue, LANGUAGE_MODEL.model_copy(update={"steps": 20})
    with tempfile.TemporaryDirectory() as folder:
        past = [[catalogue.title_of[item] for item in items] for items in games.train[:2000]]
        language_model.build(Path(folder), catalogue.titles, past, config=config, prompt=PROMPT, seed=0)
        model, tokenizer = language_model.load(folder, device=torch.device("cpu"))
    return BIGRec("bigrec", model, tokenizer, catalogue, [], BIGRecConfig(prompt=PROMPT))


def _tiger(games: Games) -> Recommender:
    ids = semantic_ids.fit(games.catalogue, config=SemanticIdsConfig(width=16), seed=0)
    torch.manual_seed(0)
    return Tiger("tiger", tiger.network(TigerConfig(), ids).eval(), ids, [], TigerConfig())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=96)
    return parser.parse_args()


if __name__ == "__main__":
    main()
