"""Beam search constrained to a trie of tokenised titles: every output is a real title.

Without length normalisation: a title's probability is the product over its tokens, nothing else (D3, Bao et al. 2024).

A calibration adds a number to the log probability of every title. The search must know of it before a title is whole: a
beginning counts with the largest number of the titles below it. No title below can do better than that, because what is
still to be written makes it only less probable.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache

from dealrec_core.language.language_model import padded


@dataclass(frozen=True)
class Trie:
    """All titles as paths from node 0; each title's token ids end with the end-of-text token, so leaves are titles.

    starts: int64 (nodes + 1,); the edges of node n are starts[n]:starts[n + 1], in order of token.
    tokens, children: int64 (edges,). leaf: int64 (nodes,), the title's number at a leaf, else -1.
    """

    starts: np.ndarray
    tokens: np.ndarray
    children: np.ndarray
    leaf: np.ndarray

    def bounds(self, added: np.ndarray) -> np.ndarray:
        """The largest number of the titles at and below each node, float64 (nodes,); added: a number for each title."""
        bounds = np.where(self.leaf >= 0, added[self.leaf], -np.inf)
        parents, depths = np.zeros_like(self.leaf), np.zeros_like(self.leaf)
        parents[self.children] = np.repeat(np.arange(len(self.leaf)), np.diff(self.starts))
        above = np.arange(len(self.leaf))
        while above.any():
            depths += above > 0
            above = parents[above]
        for depth in range(depths.max(), 0, -1):
            nodes = np.flatnonzero(depths == depth)
            np.maximum.at(bounds, parents[nodes], bounds[nodes])
        return bounds


def trie(titles: Sequence[Sequence[int]]) -> Trie:
    """The trie of distinct token sequences, none of which may be a prefix of another (they end with one end token)."""
    nodes: list[dict[int, int]] = [{}]
    leaf = [-1]
    for number, title in enumerate(titles):
        at = 0
        for token in title:
            if token not in nodes[at]:
                nodes[at][token] = len(nodes)
                nodes.append({})
                leaf.append(-1)
            at = nodes[at][token]
        leaf[at] = number
    edges = [sorted(node.items()) for node in nodes]
    return Trie(
        starts=np.concatenate([[0], np.cumsum([len(node) for node in edges])]),
        tokens=np.array([token for node in edges for token, _ in node], dtype=np.int64),
        children=np.array([child for node in edges for _, child in node], dtype=np.int64),
        leaf=np.array(leaf, dtype=np.int64),
    )


@dataclass
class Beams:
    """Hypotheses of all users of a batch, (H,) each: ordered by user, best first with the bounds of their nodes."""

    users: np.ndarray
    nodes: np.ndarray
    scores: np.ndarray
    """Summed log-probabilities."""

    def of(self, user: int, titles: Trie) -> list[tuple[int, float]]:
        """Number and log-probability of a user's titles, best first."""
        rows = self.users == user
        return list(zip(titles.leaf[self.nodes[rows]].tolist(), self.scores[rows].tolist(), strict=True))


def best_titles(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], titles: Trie, *, beams: int, pad: int
) -> list[list[int]]:
    """Numbers of the most probable titles after each prompt, as `scored_titles` finds them."""
    scored = scored_titles(model, prompts, titles, beams=beams, pad=pad)
    return [[number for number, _ in ranking] for ranking in scored]


@torch.no_grad()
def scored_titles(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    titles: Trie,
    *,
    beams: int,
    pad: int,
    bounds: np.ndarray | None = None,
) -> list[list[tuple[int, float]]]:
    """Number and log-probability of the best titles after each prompt, best first, min(beams, number of titles) of them.

    bounds: `Trie.bounds` of what is added to the log-probabilities; None adds nothing, so that the most probable are best.
    Finished titles stay in the beam, where nothing can overtake them that is worse. Among equals, the lower node comes first.
    """
    users = np.arange(len(prompts))
    beam = Beams(users, np.zeros(len(prompts), dtype=np.int64), np.zeros(len(prompts)))
    writer = _Writer(model, prompts, pad=pad)
    logits, rows = writer.after_prompts, users  # the hypothesis that each row of `logits` belongs to
    while len(rows):
        beam, parents, tokens = expanded(beam, rows, logits, titles, beams=beams, bounds=bounds)
        rows = np.flatnonzero(titles.leaf[beam.nodes] < 0)
        if len(rows):
            logits = writer.write(beam.users[rows], parents[rows], tokens[rows])
    return [beam.of(user, titles) for user in range(len(prompts))]


@torch.no_grad()
def log_probabilities(
    model: PreTrainedModel, prompt: Sequence[int], titles: Sequence[Sequence[int]], *, batch_size: int
) -> np.ndarray:
    """Log-probability of every title after one prompt of at least two tokens, float64 (titles,); the prompt is read once."""
    device, start = next(model.parameters()).device, len(prompt) - 1
    read = model(
        input_ids=torch.tensor([prompt[:start]], device=device), past_key_values=DynamicCache(), use_cache=True
    )
    order, chances = sorted(range(len(titles)), key=lambda place: len(titles[place])), np.empty(len(titles))
    for begin in range(0, len(order), batch_size):
        places = order[begin : begin + batch_size]
        ids = padded([[prompt[start], *titles[place]] for place in places], value=-1).to(device)  # (B, T + 1)
        cache = copy.deepcopy(read.past_key_values)
        cache.batch_repeat_interleave(len(places))
        at = (start + torch.arange(ids.shape[1] - 1, device=device)).expand(len(places), -1)
        logits = model(
            input_ids=ids[:, :-1].clamp(min=0), position_ids=at, past_key_values=cache, use_cache=True
        ).logits
        of_tokens = logits.float().log_softmax(2).gather(2, ids[:, 1:, None].clamp(min=0))[:, :, 0]  # (B, T)
        chances[places] = of_tokens.double().masked_fill(ids[:, 1:] < 0, 0.0).sum(1).cpu().numpy()
    return chances


def filled_left(prompts: Sequence[Sequence[int]], *, pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids of prompts (B, L), filled up on the left, and the place of each in its prompt, negative before it begins."""
    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    return ids, torch.arange(width, device=device) - (width - lengths[:, None])


class _Writer:
    """The model, with a cache of one row for each user: its prompt, then every token that a hypothesis of it wrote.

    A mask shows each hypothesis its own tokens only, so that nothing is ever copied for a beam (tree attention, Miao et
    al. 2024). All layers attend to all of that: a model's sliding window, if it has one, must be longer.
    """

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], *, pad: int) -> None:
        self._model = model
        self._device = next(model.parameters()).device
        ids, places = filled_left(prompts, pad=pad, device=self._device)
        self._lengths = places[:, -1] + 1
        output = model(
            input_ids=ids,
            attention_mask=(places >= 0).long(),
            position_ids=places.clamp(min=0),
            past_key_values=DynamicCache(),
            use_cache=True,
            logits_to_keep=1,
        )
        self.after_prompts = output.logits[:, -1]  # (B, vocabulary)
        self._cache = output.past_key_values
        self._users = np.arange(len(prompts))
        self._seen = (places >= 0)[:, None]  # (B, hypotheses, cached tokens)
        self._at = self._users, np.zeros(len(prompts), dtype=np.int64)  # row of the cache and number of each hypothesis

    def write(self, users: np.ndarray, parents: np.ndarray, tokens: np.ndarray) -> Tensor:
        """Logits (H, vocabulary) after one more token of each hypothesis (H,); users ascend, those without one are over.

        parents: number of the hypothesis, of those written last, that each one continues.
        """
        behind = tuple(self._tensor(part[parents]) for part in self._at)
        before = self._seen[behind]  # (H, cached tokens)
        self._keep(np.unique(users))
        row, number = np.searchsorted(self._users, users), np.arange(len(users)) - np.searchsorted(users, users)
        self._at = row, number
        shape, here = (len(self._users), int(number.max()) + 1), (self._tensor(row), self._tensor(number))
        itself = torch.eye(shape[1], dtype=torch.bool, device=self._device).expand(shape[0], -1, -1)
        earlier = itself.new_zeros(*shape, before.shape[1])
        earlier[here] = before
        self._seen = torch.cat([earlier, itself], 2)
        ids = torch.zeros(shape, dtype=torch.int64, device=self._device)  # places without a hypothesis hold any token
        ids[here] = self._tensor(tokens)
        mask = torch.zeros(self._seen.shape, dtype=self._model.dtype, device=self._device)
        output = self._model(
            input_ids=ids,
            attention_mask=mask.masked_fill(~self._seen, torch.finfo(mask.dtype).min)[:, None],
            position_ids=self._lengths[:, None].expand(shape),
            past_key_values=self._cache,
            use_cache=True,
        )
        self._lengths = self._lengths + 1
        logits: Tensor = output.logits[here]
        return logits

    def _keep(self, users: np.ndarray) -> None:
        if len(users) < len(self._users):
            rows = self._tensor(np.searchsorted(self._users, users))
            self._cache.batch_select_indices(rows)
            self._lengths, self._users = self._lengths[rows], users

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self._device)


def expanded(
    beam: Beams, rows: np.ndarray, logits: Tensor, titles: Trie, *, beams: int, bounds: np.ndarray | None = None
) -> tuple[Beams, np.ndarray, np.ndarray]:
    """The best `beams` of each user's finished and continued hypotheses, and the logits row and token of each."""
    nodes = beam.nodes[rows]
    counts = titles.starts[nodes + 1] - titles.starts[nodes]
    parent = np.repeat(np.arange(len(rows)), counts)
    before = np.cumsum(counts) - counts  # edges of the rows before
    edge = np.repeat(titles.starts[nodes] - before, counts) + np.arange(counts.sum())
    chances = logits.float().log_softmax(1)
    gained = chances[
        torch.from_numpy(parent).to(chances.device), torch.from_numpy(titles.tokens[edge]).to(chances.device)
    ]
    finished = np.flatnonzero(titles.leaf[beam.nodes] >= 0)
    users = np.concatenate([beam.users[finished], beam.users[rows][parent]])
    scores = np.concatenate([beam.scores[finished], beam.scores[rows][parent] + gained.double().cpu().numpy()])
    reached = np.concatenate([beam.nodes[finished], titles.children[edge]])
    parents = np.concatenate([np.full(len(finished), -1), parent])
    tokens = np.concatenate([np.full(len(finished), -1), titles.tokens[edge]])
    hopes = scores if bounds is None else scores + bounds[reached]
    order = np.lexsort((reached, -hopes, users))
    rank = np.arange(len(order)) - np.searchsorted(users[order], users[order])
    order = order[rank < beams]
    return Beams(users[order], reached[order], scores[order]), parents[order], tokens[order]
