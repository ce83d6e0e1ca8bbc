"""Beam search constrained to a trie of tokenised titles: every output is a real title.

Without length normalisation: a title's probability is the product over its tokens, nothing else (D3, Bao et al. 2024).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache


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
    """Hypotheses of all users of a batch, (H,) each: ordered by user, best first."""

    users: np.ndarray
    nodes: np.ndarray
    scores: np.ndarray
    """Summed log-probabilities."""


@torch.no_grad()
def best_titles(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], titles: Trie, *, beams: int, pad: int
) -> list[list[int]]:
    """Numbers of the most probable titles after each prompt, best first, min(beams, number of titles) of them.

    Finished titles stay in the beam, where nothing can overtake them that is less probable. Of equals, the lower node.
    """
    logits, cache = _prefill(model, prompts, pad=pad)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=logits.device)
    width = max(map(len, prompts))
    mask = (torch.arange(width, device=logits.device) >= (width - lengths)[:, None]).long()
    users = np.arange(len(prompts))
    found = Beams(users, np.zeros(len(prompts), dtype=np.int64), np.zeros(len(prompts)))
    rows = users  # the hypothesis that each row of `logits` and of the cache belongs to
    step = 0
    while len(rows):
        found, parents, tokens = expanded(found, rows, logits, titles, beams=beams)
        alive = np.flatnonzero(titles.leaf[found.nodes] < 0)
        if not len(alive):
            break
        keep = torch.from_numpy(parents[alive]).to(logits.device)
        cache.batch_select_indices(keep)
        mask = torch.cat([mask[keep], mask.new_ones(len(keep), 1)], 1)
        lengths = lengths[keep]
        output = model(
            input_ids=torch.from_numpy(tokens[alive])[:, None].to(logits.device),
            attention_mask=mask,
            position_ids=(lengths + step)[:, None],
            past_key_values=cache,
            use_cache=True,
        )
        logits, rows, step = output.logits[:, -1], alive, step + 1
    return [titles.leaf[found.nodes[found.users == user]].tolist() for user in users]


def _prefill(model: PreTrainedModel, prompts: Sequence[Sequence[int]], *, pad: int) -> tuple[Tensor, DynamicCache]:
    """Logits after each prompt, (B, vocabulary), and the cache; prompts are padded on the left."""
    width = max(map(len, prompts))
    device = next(model.parameters()).device
    ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)[:, None]
    places = torch.arange(width, device=device) - (width - lengths)
    output = model(
        input_ids=ids,
        attention_mask=(places >= 0).long(),
        position_ids=places.clamp(min=0),
        past_key_values=DynamicCache(config=model.config),
        use_cache=True,
        logits_to_keep=1,
    )
    return output.logits[:, -1], output.past_key_values


def expanded(
    found: Beams, rows: np.ndarray, logits: Tensor, titles: Trie, *, beams: int
) -> tuple[Beams, np.ndarray, np.ndarray]:
    """The best `beams` of each user's finished and continued hypotheses, and the logits row and token of each."""
    nodes = found.nodes[rows]
    counts = titles.starts[nodes + 1] - titles.starts[nodes]
    parent = np.repeat(np.arange(len(rows)), counts)
    before = np.cumsum(counts) - counts  # edges of the rows before
    edge = np.repeat(titles.starts[nodes] - before, counts) + np.arange(counts.sum())
    chances = logits.float().log_softmax(1)
    gained = chances[
        torch.from_numpy(parent).to(logits.device), torch.from_numpy(titles.tokens[edge]).to(logits.device)
    ]
    finished = np.flatnonzero(titles.leaf[found.nodes] >= 0)
    users = np.concatenate([found.users[finished], found.users[rows][parent]])
    scores = np.concatenate([found.scores[finished], found.scores[rows][parent] + gained.double().cpu().numpy()])
    reached = np.concatenate([found.nodes[finished], titles.children[edge]])
    parents = np.concatenate([np.full(len(finished), -1), parent])
    tokens = np.concatenate([np.full(len(finished), -1), titles.tokens[edge]])
    order = np.lexsort((reached, -scores, users))
    rank = np.arange(len(order)) - np.searchsorted(users[order], users[order])
    order = order[rank < beams]
    return Beams(users[order], reached[order], scores[order]), parents[order], tokens[order]
