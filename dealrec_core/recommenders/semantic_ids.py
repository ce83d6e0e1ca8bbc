"""Semantic ids (Rajput et al. 2023, TIGER): every item as a short, unique sequence of codes; alike items begin alike.

Content vectors are quantised level by level, each level what the levels before left over (residual k-means). A last
code tells items apart that share all others. New items are coded by the same quantiser; old codes never change.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import svds

from dealrec_core.errors import DataError
from dealrec_core.recommenders import rq_vae
from dealrec_core.recommenders.rq_vae import RQVAE, Layers, encoded, layers_of, perceptron
from dealrec_core.recommenders.sentence_content import SentenceContent
from dealrec_core.samples.clusters import k_means, nearest
from dealrec_core.samples.items import Catalogue
from dealrec_core.settings.recommenders import TF_IDF, SemanticIdsConfig


@dataclass(frozen=True)
class Content:
    """Turns titles and categories into vectors: TF-IDF of their words, then the leading singular directions."""

    words: dict[str, int]
    rarity: np.ndarray
    """Inverse document frequency of each word, float64 (W,)."""
    directions: np.ndarray
    """float64 (W, D)."""

    def vectors(self, catalogue: Catalogue) -> np.ndarray:
        """The vectors of all items, float64 (V, D); an item without a known word is the origin."""
        return np.asarray(_tf_idf(_words(catalogue), self.words, self.rarity) @ self.directions)


@dataclass(frozen=True)
class SemanticIds:
    """The codes of all items, with all that is needed to code more."""

    content: Content | SentenceContent
    centres: list[np.ndarray]
    """Of each level, float64 (K, D); levels with fewer distinct points than `codes` have fewer."""
    item_ids: list[str]
    codes: np.ndarray
    """int64 (V, levels + 1), no two rows equal; the last column counts from 0 among items equal in the others."""
    encoder: Layers
    """Of the RQ-VAE; none for k-means."""
    size: int
    """Codes a level may have; also the most items that may share all codes but the last."""

    def extended(self, catalogue: Catalogue) -> "SemanticIds":
        """These ids and codes for the catalogue's items that have none yet, in its order; old codes stay.

        Raises:
            DataError: more than `size` items share their content codes.
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
        DataError: the catalogue is empty, or more than `codes` items share their content codes.
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
    random = np.random.default_rng(seed)
    centres: list[np.ndarray] = []
    remainder = vectors
    for _ in range(config.levels):
        centres.append(k_means(remainder, count=config.codes, iterations=config.iterations, random=random))
        remainder = remainder - centres[-1][nearest(remainder, centres[-1])]
    return centres


def _learnt(vectors: np.ndarray, *, config: SemanticIdsConfig, seed: int) -> RQVAE:
    """An RQ-VAE whose codebooks begin at residual k-means of what its untrained encoder says."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = perceptron([vectors.shape[1], *config.rqvae.inner_widths, config.rqvae.width])
    start = _residual_k_means(encoded(vectors, layers_of(network)), config=config, seed=seed)
    return rq_vae.train(vectors, start, network, config=config.rqvae, seed=seed)


def quantise(vectors: np.ndarray, centres: Sequence[np.ndarray]) -> np.ndarray:
    """The codes of vectors (N, D), int64 (N, levels)."""
    remainder, codes = vectors, []
    for level in centres:
        codes.append(nearest(remainder, level))
        remainder = remainder - level[codes[-1]]
    return np.stack(codes, axis=1)


def _distinct(coded: np.ndarray, *, before: np.ndarray, size: int) -> np.ndarray:
    """Adds the code that counts equals, going on from the rows that were coded before."""
    seen = Counter(map(tuple, before.tolist()))
    last = np.empty(len(coded), dtype=np.int64)
    for row, code in enumerate(map(tuple, coded.tolist())):
        last[row] = seen[code]
        seen[code] += 1
        if seen[code] > size:
            raise DataError(f"more than {size} items share the codes {code}; raise the codes or levels of semantic ids")
    return np.column_stack([coded, last])


def _content(catalogue: Catalogue, *, width: int, seed: int) -> Content:
    texts = _words(catalogue)
    vocabulary = sorted({word for text in texts for word in text})
    words = {word: place for place, word in enumerate(vocabulary)}
    held = Counter(word for text in texts for word in set(text))
    rarity = np.log((1 + len(texts)) / (1 + np.array([held[word] for word in vocabulary], dtype=np.float64))) + 1
    matrix = _tf_idf(texts, words, rarity)
    most = min(matrix.shape)
    if width >= most:  # svds gives fewer directions than either side has
        _, _, right = np.linalg.svd(matrix.toarray(), full_matrices=False)
        return Content(words, rarity, _signed(right).T)
    _, strengths, right = svds(matrix, k=width, v0=np.random.default_rng(seed).standard_normal(most))
    return Content(words, rarity, _signed(right[np.argsort(-strengths, kind="stable")]).T)


def _signed(directions: np.ndarray) -> np.ndarray:
    """Each direction (row) with its largest entry positive: singular vectors have no sign of their own."""
    largest = directions[np.arange(len(directions)), np.abs(directions).argmax(1)]
    return np.asarray(directions * np.where(largest < 0, -1.0, 1.0)[:, None])


def _words(catalogue: Catalogue) -> list[list[str]]:
    """Lower-case words of each title, and each category as one word."""
    return [
        [*re.findall(r"\w+", title.lower()), *(f"category {name.lower()}" for name in categories)]
        for title, categories in zip(catalogue.titles, catalogue.categories, strict=True)
    ]


def _tf_idf(texts: Sequence[Sequence[str]], words: dict[str, int], rarity: np.ndarray) -> sparse.csr_matrix:
    """Word counts times rarity, rows of length 1."""
    places = [(row, words[word]) for row, text in enumerate(texts) for word in text if word in words]
    rows, columns = np.array(places, dtype=np.int64).reshape(-1, 2).T
    matrix = sparse.csr_matrix((rarity[columns], (rows, columns)), shape=(len(texts), len(words)))
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(1)).ravel())
    return sparse.diags(1 / np.where(lengths > 0, lengths, 1.0)) @ matrix
