"""Semantic ids (Rajput et al. 2023, TIGER): every item as a short, unique sequence of codes; similar items have similar beginnings.

Content vectors are quantised level by level, each level the residual of the levels before (residual k-means). A last code
tells items apart that share all others. New items are coded by the same quantiser; old codes never change.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch

from dealrec_core.errors import DataError
from dealrec_core.recommenders import rq_vae
from dealrec_core.recommenders.rq_vae import RQVAE, Layers, encoded, layers_of, perceptron
from dealrec_core.recommenders.sentence_content import SentenceContent
from dealrec_core.samples.clusters import k_means, nearest
from dealrec_core.samples.items import Catalogue
from dealrec_core.settings.recommenders import TF_IDF, SemanticIdsConfig


@dataclass(frozen=True)
class Content:
    """Turns titles and categories into vectors: TF-IDF of their words (_words), projected on the leading singular directions."""

    words: dict[str, int]
    rarity: np.ndarray
    """Inverse document frequency of each word, float64 (W,)."""
    directions: np.ndarray
    """float64 (W, D)."""

    def vectors(self, catalogue: Catalogue) -> np.ndarray:
        """Vector of every item, float64 (V, D); an item without a word of `words` is the origin."""
        vectorizer = _vectorizer(self.words)
        vectorizer.idf_ = self.rarity
        return np.asarray(vectorizer.transform(_words(catalogue)) @ self.directions)


@dataclass(frozen=True)
class SemanticIds:
    """The codes of all items, and the quantiser for new items."""

    content: Content | SentenceContent
    centres: list[np.ndarray]
    """Centres of each level, float64 (K, D); a level with fewer distinct points than `codes` has fewer centres."""
    item_ids: list[str]
    codes: np.ndarray
    """int64 (V, levels + 1), no two rows equal; the last column counts from 0 among items equal in the others."""
    encoder: Layers
    """Encoder of the RQ-VAE; empty for k-means."""
    size: int
    """Codes of a level, and most items that may share all codes but the last."""

    def extended(self, catalogue: Catalogue) -> "SemanticIds":
        """The semantic ids with codes for the catalogue's new items, in its order; old codes stay.

        Raises:
            DataError: there are more items than codes.
        """
        coded_items = set(self.item_ids)
        fresh = [row for row, item in enumerate(catalogue.item_ids) if item not in coded_items]
        if not fresh:
            return self
        part = Catalogue(
            [catalogue.item_ids[row] for row in fresh],
            [catalogue.titles[row] for row in fresh],
            [catalogue.categories[row] for row in fresh],
        )
        coded = quantise(encoded(self.content.vectors(part), self.encoder), self.centres)
        codes = _distinct(coded, before=self.codes[:, :-1], size=self.size)
        return replace(self, item_ids=[*self.item_ids, *part.item_ids], codes=np.concatenate([self.codes, codes]))


def fit(catalogue: Catalogue, *, config: SemanticIdsConfig, seed: int) -> SemanticIds:
    """Content vectors, quantiser and codes of a catalogue.

    Raises:
        DataError: the catalogue is empty, or there are more items than codes.
    """
    if not len(catalogue):
        raise DataError("no items to give semantic ids to; ingest items first")
    content: Content | SentenceContent = SentenceContent(config.embedding)
    if config.embedding == TF_IDF:
        content = _content(catalogue, width=config.width, seed=seed)
    vectors = content.vectors(catalogue)
    encoder: Layers = []
    if config.quantiser == "kmeans":
        centres = _residual_k_means(vectors, config=config, seed=seed)
    else:
        learnt = _learnt(vectors, config=config, seed=seed)
        encoder, centres = learnt.encoder, learnt.centres
    coded = quantise(encoded(vectors, encoder), centres)
    none = np.empty((0, config.levels), dtype=np.int64)
    codes = _distinct(coded, before=none, size=config.codes)
    return SemanticIds(content, centres, list(catalogue.item_ids), codes, encoder, config.codes)


def _residual_k_means(vectors: np.ndarray, *, config: SemanticIdsConfig, seed: int) -> list[np.ndarray]:
    centres: list[np.ndarray] = []
    residual = vectors
    for _ in range(config.levels):
        centres.append(k_means(residual, count=config.codes, iterations=config.iterations, seed=seed))
        residual = residual - centres[-1][nearest(residual, centres[-1])]
    return centres


def _learnt(vectors: np.ndarray, *, config: SemanticIdsConfig, seed: int) -> RQVAE:
    """An RQ-VAE whose codebooks begin at residual k-means of the vectors of its untrained encoder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = perceptron([vectors.shape[1], *config.rqvae.inner_widths, config.rqvae.width])
    start = _residual_k_means(encoded(vectors, layers_of(network)), config=config, seed=seed)
    return rq_vae.train(vectors, start, network, config=config.rqvae, seed=seed)


def quantise(vectors: np.ndarray, centres: Sequence[np.ndarray]) -> np.ndarray:
    """The codes of vectors (N, D), int64 (N, levels)."""
    residual, codes = vectors, []
    for level in centres:
        codes.append(nearest(residual, level))
        residual = residual - level[codes[-1]]
    return np.stack(codes, axis=1)


def _distinct(coded: np.ndarray, *, before: np.ndarray, size: int) -> np.ndarray:
    """Appends the code that counts equal rows; it starts after the rows coded before.

    Where `size` rows are equal already, the next ones go to one other code of the last level, the least used one, until that is
    full, too: they still share the codes of the levels before it. Where the whole last level is full, the level before it gives way.

    Raises:
        DataError: there are more items than codes.
    """
    seen = Counter(map(tuple, before.tolist()))
    others: dict[tuple[int, ...], tuple[int, ...]] = {}
    rows = []
    for own in map(tuple, coded.tolist()):
        code = own
        if seen[own] == size:
            code = others.get(own, own)
            if seen[code] == size:
                code = others[own] = _least_used(own, seen, size)
        rows.append((*code, seen[code]))
        seen[code] += 1
    return np.array(rows, dtype=np.int64).reshape(len(coded), coded.shape[1] + 1)


def _least_used(code: tuple[int, ...], seen: Counter[tuple[int, ...]], size: int) -> tuple[int, ...]:
    """The code with room that shares the longest beginning with `code`; of several the one with the fewest items."""
    for shared in reversed(range(len(code))):
        ends = product(range(size), repeat=len(code) - shared)
        best = min((code[:shared] + end for end in ends), key=lambda other: seen[other])
        if seen[best] < size:
            return best
    raise DataError(
        f"{size} codes on {len(code) + 1} levels are too few for all items; raise the codes or levels of semantic ids"
    )


def _content(catalogue: Catalogue, *, width: int, seed: int) -> Content:
    from sklearn.decomposition import TruncatedSVD  # not at the top: the import takes seconds

    vectorizer = _vectorizer()
    matrix = vectorizer.fit_transform(_words(catalogue))
    words = {word: int(place) for word, place in sorted(vectorizer.vocabulary_.items())}
    if len(words) == 1:  # TruncatedSVD wants two
        return Content(words, vectorizer.idf_, np.eye(1))
    most = min(matrix.shape)
    algorithm = "arpack" if width < most else "randomized"  # ARPACK gives fewer directions than either side has
    svd = TruncatedSVD(min(width, most), algorithm=algorithm, random_state=seed % 2**32).fit(matrix)
    return Content(words, vectorizer.idf_, svd.components_.T)


def _vectorizer(words: dict[str, int] | None = None) -> Any:
    """scikit-learn's TF-IDF over lists of words, rows of length 1; `words` fixes the vocabulary."""
    from sklearn.feature_extraction.text import TfidfVectorizer  # not at the top: the import takes seconds

    return TfidfVectorizer(analyzer=list, vocabulary=words)


def _words(catalogue: Catalogue) -> list[list[str]]:
    """Lower-case words of each title, and each category as one word.

    Writing without blanks between words (Chinese, Japanese, Thai and others) becomes its single letters and pairs of letters.
    """
    from sklearn.feature_extraction.text import CountVectorizer  # not at the top: the import takes seconds

    pairs = CountVectorizer(analyzer="char", ngram_range=(1, 2)).build_analyzer()
    return [
        [*_title_words(title.lower(), pairs), *(f"category {name.lower()}" for name in categories)]
        for title, categories in zip(catalogue.titles, catalogue.categories, strict=True)
    ]


def _title_words(title: str, pairs: Callable[[str], list[str]]) -> Iterator[str]:
    for without_blanks, word in PARTS.findall(title):
        if without_blanks:
            yield from pairs(without_blanks)
        else:
            yield word


BLANKLESS = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff"  # Thai and Lao, Tibetan, Burmese, Khmer
    "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # radicals, kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese characters
)
"""Letters of languages that are written without blanks between words."""
PARTS = re.compile(rf"([{BLANKLESS}]+)|((?:(?![{BLANKLESS}])\w)+)")
