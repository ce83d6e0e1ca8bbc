"""A catalogue of 5,000 made-up Chinese and Japanese titles goes through a night of TIGER and a night of BIGRec.

    python benchmarks/alphabets.py

A title is a subject and a tail, without blanks, in Chinese characters or kana; 8% of the items have one and the same title, as "video"
is in real catalogues. Semantic ids must be unique, and items of one subject must begin with the same code more often than
chance. Then every backend has a whole night with small settings. Writes benchmarks/results/alphabets.json.
"""

import argparse
import json
import random
import resource
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks import town
from benchmarks.machine import machine
from dealrec_core.recommenders import semantic_ids
from dealrec_core.samples.items import Catalogue
from dealrec_core.settings.recommenders import SemanticIdsConfig

RESULTS = town.ROOT / "benchmarks" / "results" / "alphabets.json"
CHINESE = "王者荣耀魔法学院冒险海洋城市星空机器人恐龙花园料理音乐篮球足球赛车飞机历史战争爱情喜剧悬疑科幻武侠校园动物旅行健身教程"
KANA = "アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモヤユヨラリルレロワン"
COMMON = "视频"
ITEMS, SUBJECTS, USERS, EVENTS_A_USER, DAYS = 5000, 100, 300, 14, 20
START = datetime(2026, 1, 1, tzinfo=UTC)
CONFIG = """[sources]
root = "{folder}/data"
[sources.interactions]
files = ["log.csv"]
[sources.items]
files = ["items.csv"]
[lake]
root = "{folder}/lake"
[registry]
tracking_uri = "sqlite:///{folder}/mlflow.db"
"""
SMALL = [
    *("surrogate.epochs=2", "surrogate.width=8", "language_model.steps=20", "language_model.width=32"),
    *("tiger.width=16", "tiger.layers=1", "tiger.epochs=2", "tiger.pretraining_epochs=2"),
    *("fine_tune.epochs=1", "evaluation.users=40", "coreset.ratio=0.02", "gate.resamples=200"),
]


def main() -> None:
    """Writes the log, looks at the codes, runs both nights and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", help="keeps log and lakes there")
    parser.add_argument("--backends", nargs="+", choices=["tiger", "bigrec"], default=["tiger", "bigrec"])
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    with town.folder(options.folder) as folder:
        town.in_child(_codes, folder)  # this process must start no thread of polars before it forks
        found: dict[str, Any] = {"items": ITEMS, "codes": json.loads((folder / "codes.json").read_text()), "nights": {}}
        print(json.dumps(found["codes"], indent=1), flush=True)
        with town.prefect_server(folder):
            for backend in options.backends:
                town.in_child(_night, folder, backend)
                found["nights"][backend] = json.loads((folder / backend / "result.json").read_text())
                print(backend, found["nights"][backend], flush=True)
    found["command"], found["machine"] = "python benchmarks/alphabets.py", machine()
    options.results.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _codes(folder: Path) -> None:
    (folder / "codes.json").write_text(json.dumps(codes(write(folder), SemanticIdsConfig())))


def write(folder: Path) -> list[str]:
    """Writes items and a log of users who stay with a subject for a while; returns the titles, item n of subject n mod SUBJECTS."""
    world = random.Random(0)
    subjects = ["".join(world.sample(KANA if number % 2 else CHINESE, 4)) for number in range(SUBJECTS)]
    titles = []
    for number in range(ITEMS):
        tail = "".join(world.sample(CHINESE if number % 3 else KANA, world.randint(3, 6)))
        titles.append(COMMON if number % 12 == 0 else subjects[number % SUBJECTS] + tail)
    events = []
    for user in range(USERS):
        subject = world.randrange(SUBJECTS)
        for _ in range(EVENTS_A_USER):
            subject = world.randrange(SUBJECTS) if world.random() < 0.15 else subject
            item = subject + SUBJECTS * min(int(world.expovariate(0.12)), ITEMS // SUBJECTS - 1)
            events.append((f"用户{user}", f"v{item}", int(START.timestamp()) + world.randrange(DAYS * 86_400)))
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "pipeline.toml").write_text(CONFIG.format(folder=folder))
    items = pl.DataFrame({"item_id": [f"v{number}" for number in range(ITEMS)], "title": titles})
    items.write_csv(folder / "data" / "items.csv")
    log = pl.DataFrame(events, schema=["user_id", "item_id", "timestamp"], orient="row")
    log.sort("timestamp").write_csv(folder / "data" / "log.csv")
    return titles


def codes(titles: list[str], config: SemanticIdsConfig) -> dict[str, Any]:
    """Returns the share of pairs of one subject that begin with equal codes, and that share among pairs of any subjects."""
    catalogue = Catalogue([f"v{number}" for number in range(len(titles))], titles, [[] for _ in titles])
    found = semantic_ids.fit(catalogue, config=config, seed=0).codes
    own = np.array([number for number, title in enumerate(titles) if title != COMMON])
    draw = np.random.default_rng(0)
    one, other = draw.choice(own, (2, 200_000))
    is_pair, is_alike = one != other, one % SUBJECTS == other % SUBJECTS
    shares = {
        f"share the first {length}": {
            "of one subject": _share(found, one, other, is_pair & is_alike, length),
            "by chance": _share(found, one, other, is_pair & ~is_alike, length),
        }
        for length in range(1, config.levels + 1)
    }
    return {"all codes differ": bool(len(np.unique(found, axis=0)) == len(titles)), **shares}


def _share(found: np.ndarray, one: np.ndarray, other: np.ndarray, which: np.ndarray, length: int) -> float:
    is_same = (found[one[which], :length] == found[other[which], :length]).all(axis=1)
    return round(float(is_same.mean()), 4)


def _night(folder: Path, backend: str) -> None:
    from flows.nightly import nightly
    from tasks.nights import NightRequest

    home = folder / backend
    home.mkdir(exist_ok=True)
    places = [
        f"run.home={home}",
        f"lake.root={home}/lake",
        f"registry.tracking_uri=sqlite:///{home}/mlflow.db",
        f"registry.artifacts={home}/artifacts",
        f"recommender.backend={backend}",
    ]
    request = NightRequest(day=date(2026, 1, DAYS), config=str(folder / "pipeline.toml"), overrides=[*SMALL, *places])
    summary = nightly(request)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    result = {
        "outcome": summary.outcome,
        "message": summary.message,
        "cpu_s": round(usage.ru_utime + usage.ru_stime),
        "peak_gib": round(usage.ru_maxrss / 2**20, 2),
    }
    (home / "result.json").write_text(json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    main()
