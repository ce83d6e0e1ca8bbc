"""scikit-learn against the code it replaced: `python benchmarks/library_swap.py`.

Semantic ids of the demo's catalogue and of Games' 17,332 titles, and clusters of vectors as RecRanker and TF-DCon draw them,
by both ways in one process and one thread, over several seeds. The old code lives here alone. Writes
benchmarks/results/library_swap.json with the machine's facts.
"""

import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import svds

from benchmarks.games import Games
from benchmarks.machine import machine
from dealrec_core.ingest import synthetic
from dealrec_core.recommenders import semantic_ids
from dealrec_core.samples import clusters
from dealrec_core.samples.clusters import nearest
from dealrec_core.samples.items import Catalogue
from dealrec_core.settings.recommenders import SemanticIdsConfig

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "library_swap.json"
SEEDS = range(3)
NEIGHBOURS, ASKED = 10, 1000
Coded = tuple[np.ndarray, list[np.ndarray]]
"""Content vectors (V, D) and the centres of each level."""


def main() -> None:
    """Measures both ways on both catalogues and writes the results."""
    folder = (ROOT / os.environ.get("DEALREC_DATA", "../shared/data")).resolve() / "games"
    catalogues = {"demo": demo(), "games": Games(folder).catalogue}
    clusters.k_means(np.eye(4), count=2, iterations=1, seed=0)  # the import of scikit-learn is no part of the seconds
    facts = machine() | {name: version(name) for name in ("numpy", "scipy", "scikit-learn")}
    result: dict[str, Any] = {"machine": facts, "seeds": len(SEEDS), "settings": SemanticIdsConfig().model_dump()}
    for name, catalogue in catalogues.items():
        result[name] = {
            "items": len(catalogue),
            "semantic ids": _semantic_ids(catalogue),
            "clusters": _clusters(catalogue),
        }
        print(name, json.dumps(result[name], indent=1), flush=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def demo() -> Catalogue:
    """The items of the demo's first day."""
    config = synthetic.SyntheticConfig()
    places = [(series, part) for series in range(synthetic.series_count(0, config)) for part in range(config.parts)]
    categories = [[synthetic.CATEGORIES[series % len(synthetic.CATEGORIES)]] for series, _ in places]
    return Catalogue(
        [synthetic.item_id(*place) for place in places], [synthetic.title(*place) for place in places], categories
    )


def _semantic_ids(catalogue: Catalogue) -> dict[str, Any]:
    config = SemanticIdsConfig()
    similar = _similar(catalogue)
    ways: dict[str, Callable[[int], Coded]] = {
        "before": lambda seed: old_fit(catalogue, config, seed=seed),
        "scikit-learn": lambda seed: new_fit(catalogue, config, seed=seed),
    }

    def judged(fit: Callable[[int], Coded], seed: int) -> dict[str, float]:
        return _quality(*_timed(fit, seed), similar)

    return {way: _over_seeds(partial(judged, fit)) for way, fit in ways.items()}


def _clusters(catalogue: Catalogue) -> dict[str, Any]:
    vectors, _ = new_fit(catalogue, SemanticIdsConfig(levels=1, codes=2, iterations=1), seed=0)
    ways: dict[str, Callable[[int, int], np.ndarray]] = {
        "before": lambda count, seed: old_k_means(
            vectors, count=count, iterations=50, random=np.random.default_rng(seed)
        ),
        "scikit-learn": lambda count, seed: clusters.k_means(vectors, count=count, iterations=50, seed=seed),
    }

    def figures(fit: Callable[[int, int], np.ndarray], count: int, seed: int) -> dict[str, float]:
        centres, seconds = _timed(partial(fit, count), seed)
        return {"error": _error(vectors - centres[nearest(vectors, centres)], vectors), "seconds": seconds}

    return {
        f"{count} clusters, {way}": _over_seeds(partial(figures, fit, count))
        for count in (10, 50)
        for way, fit in ways.items()
    }


def _timed(fit: Callable[[int], Any], seed: int) -> tuple[Any, float]:
    began = time.process_time()
    return fit(seed), time.process_time() - began


def _over_seeds(measure: Callable[[int], dict[str, float]]) -> dict[str, list[float]]:
    """Mean and range over the seeds of each figure."""
    rows = [measure(seed) for seed in SEEDS]
    return {
        name: [round(float(f([row[name] for row in rows])), 4) for f in (np.mean, np.min, np.max)] for name in rows[0]
    }


def _quality(coded: Coded, seconds: float, similar: np.ndarray) -> dict[str, float]:
    vectors, centres = coded
    codes = semantic_ids.quantise(vectors, centres)
    rest, figures = vectors, {}
    for level, points in enumerate(centres):
        rest = rest - points[codes[:, level]]
        figures[f"error after level {level + 1}"] = _error(rest, vectors)
    sizes = np.unique(codes, axis=0, return_counts=True)[1]
    figures |= {"items that share all codes": float(sizes[sizes > 1].sum()), "largest share": float(sizes.max())}
    rows = np.arange(0, len(vectors), max(1, len(vectors) // ASKED))[: len(similar)]
    for levels in (1, 2):
        same = (codes[rows, None, :levels] == codes[similar][..., :levels]).all(-1)
        figures[f"neighbours that share {levels} codes"] = float(same.mean())
    return figures | {"seconds": seconds}


def _error(rest: np.ndarray, vectors: np.ndarray) -> float:
    """Mean squared rest over the mean squared distance of the vectors from their mean."""
    return float(np.square(rest).sum() / np.square(vectors - vectors.mean(0)).sum())


def _similar(catalogue: Catalogue) -> np.ndarray:
    """The nearest items (M, NEIGHBOURS) of up to ASKED items by the cosine of all their words."""
    texts = semantic_ids._words(catalogue)
    words, rarity = _vocabulary(texts)
    matrix = old_tf_idf(texts, words, rarity).tocsr()
    rows = np.arange(0, len(texts), max(1, len(texts) // ASKED))[:ASKED]
    cosine = (matrix[rows] @ matrix.T).toarray()
    cosine[np.arange(len(rows)), rows] = -1
    return np.argsort(-cosine, axis=1, kind="stable")[:, :NEIGHBOURS]


def new_fit(catalogue: Catalogue, config: SemanticIdsConfig, *, seed: int) -> Coded:
    """The program's way."""
    content = semantic_ids._content(catalogue, width=config.width, seed=seed)
    vectors = content.vectors(catalogue)
    return vectors, semantic_ids._residual_k_means(vectors, config=config, seed=seed)


def old_fit(catalogue: Catalogue, config: SemanticIdsConfig, *, seed: int) -> Coded:
    """TF-IDF, svds and k-means as they were written by hand."""
    texts = [
        [*re.findall(r"\w+", title.lower()), *(f"category {name.lower()}" for name in categories)]
        for title, categories in zip(catalogue.titles, catalogue.categories, strict=True)
    ]
    words, rarity = _vocabulary(texts)
    matrix = old_tf_idf(texts, words, rarity)
    most = min(matrix.shape)
    if config.width >= most:
        directions = np.linalg.svd(matrix.toarray(), full_matrices=False)[2].T
    else:
        _, strengths, right = svds(matrix, k=config.width, v0=np.random.default_rng(seed).standard_normal(most))
        directions = right[np.argsort(-strengths, kind="stable")].T
    vectors = np.asarray(matrix @ directions)
    random, centres, rest = np.random.default_rng(seed), [], vectors
    for _ in range(config.levels):
        centres.append(old_k_means(rest, count=config.codes, iterations=config.iterations, random=random))
        rest = rest - centres[-1][nearest(rest, centres[-1])]
    return vectors, centres


def _vocabulary(texts: list[list[str]]) -> tuple[dict[str, int], np.ndarray]:
    names = sorted({word for text in texts for word in text})
    held = Counter(word for text in texts for word in set(text))
    rarity = np.log((1 + len(texts)) / (1 + np.array([held[word] for word in names], dtype=np.float64))) + 1
    return {word: place for place, word in enumerate(names)}, rarity


def old_tf_idf(texts: list[list[str]], words: dict[str, int], rarity: np.ndarray) -> sparse.csr_matrix:
    """Word counts times rarity, rows of length 1."""
    places = [(row, words[word]) for row, text in enumerate(texts) for word in text if word in words]
    rows, columns = np.array(places, dtype=np.int64).reshape(-1, 2).T
    matrix = sparse.csr_matrix((rarity[columns], (rows, columns)), shape=(len(texts), len(words)))
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(1)).ravel())
    return sparse.diags(1 / np.where(lengths > 0, lengths, 1.0)) @ matrix


def old_k_means(points: np.ndarray, *, count: int, iterations: int, random: np.random.Generator) -> np.ndarray:
    """Centres (K, D) by k-means++ and Lloyd's iterations; a centre without points moves to the farthest point."""
    distinct = np.unique(points, axis=0)
    if len(distinct) <= count:
        return distinct
    centres = _spread(points, count, random)
    for _ in range(iterations):
        own = nearest(points, centres)
        sizes = np.bincount(own, minlength=count)
        moved = sparse.csr_matrix((np.ones(len(points)), (own, np.arange(len(points)))), shape=(count, len(points)))
        means = np.asarray(moved @ points) / np.maximum(sizes, 1)[:, None]
        dead = np.flatnonzero(sizes == 0)
        if len(dead):
            far = np.square(points - centres[own]).sum(1)
            means[dead] = points[np.argsort(-far, kind="stable")[: len(dead)]]
        if np.allclose(means, centres, rtol=0, atol=1e-12):
            break
        centres = means
    return centres


def _spread(points: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    chosen = [int(random.integers(len(points)))]
    gaps = np.square(points - points[chosen[0]]).sum(1)
    for _ in range(count - 1):
        chosen.append(int(random.choice(len(points), p=gaps / gaps.sum())))
        gaps = np.minimum(gaps, np.square(points - points[chosen[-1]]).sum(1))
    return points[chosen]


if __name__ == "__main__":
    main()
