"""DCRec: debiased contrastive learning (Yang et al. 2023, "Debiased contrastive learning for sequential recommendation").

A state is an attention over three views: a transformer's state after the history, and the history's last item in two
graphs of the training histories, that of transitions and that of co-interactions. A light graph convolution makes an
item's vector in a graph, norm(x + (x + A x + A² x) / 3) (paper, section 3.2; the authors' code). In training, contrastive
terms draw the views of one history together (section 3.4): the sequence to the transition graph with the weight of the
history's conformity, both graphs to each other with the remaining weight. Conformity says how little an item changes when
the history's transitions are taken out of the graph (section 3.3).

The table holds three blocks of D columns, items | transitions | co-interactions: a graph is walked once for all batches,
and only the first block makes logits.

Deviations: attention is causal, so that one window trains all its positions, and blocks are those of SASRec; the contrast
is taken at the last position of a window, not of every prefix, and the last item's neighbours are averaged whole, not ten
drawn ones; conformity is a constant of a step, so that its pull towards a normal distribution (the KL term) has no
gradient and is left out, while its mean of 0.5 is kept by scaling; entries of a graph are not dropped out, its inputs are;
the co-interaction graph is made symmetric. A graph stays as it is when a sample is left out: what a sample did to the
graphs is no part of its influence.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dealrec_core.surrogate import graphs
from dealrec_core.surrogate.base import Predictions
from dealrec_core.surrogate.sasrec import Shape, Transformer, initialise, scaled

CONTRAST = 0.1
"""Weight of the contrastive terms beside the mean cross-entropy; the authors' for Amazon data."""
MEAN_CONFORMITY = 0.5


class DCRec(Transformer):
    """Causal: every position predicts the next item."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.graph_norm = nn.LayerNorm(shape.width)
        self.fusion = nn.Linear(shape.width, shape.width, bias=False)
        self.choice = nn.Parameter(torch.empty(shape.width))
        self.transitions = graphs.Graph()
        self.companions = graphs.Graph()
        self.apply(initialise)
        nn.init.normal_(self.positions, std=0.02)
        nn.init.normal_(self.choice, std=0.02)

    def read(self, windows: Sequence[np.ndarray]) -> None:
        """Makes the graphs from windows (W, L + 1) of the training histories."""
        self.transitions.put(graphs.transitions(windows, item_count=self.item_count))
        self.companions.put(graphs.companions(windows, item_count=self.item_count))

    def item_table(self) -> Tensor:
        """Items, and their views in both graphs, (V, 3 D)."""
        items = self.dropout(self.items.weight)
        views = (self._view(graph.edges, graph.weights, items) for graph in (self.transitions, self.companions))
        return torch.cat([self.items.weight, *views], 1)

    def last(self, items: Tensor, table: Tensor) -> Tensor:
        """The state (B, D) after histories (B, L): the transformer's view and those in both graphs."""
        sequence = super().last(items, table[:, : self.shape.width])
        return self._fused(sequence, *self._views(items[:, -1], table))

    def predictions(self, windows: Tensor, table: Tensor, *, seed: int) -> Predictions:
        """Every item of windows (B, L + 1) but the first is predicted from those before it; the contrast beside it."""
        histories, targets = windows[:, :-1], windows[:, 1:].flatten()
        sequence = self.hidden(histories, table[:, : self.shape.width])
        transition, companion = self._views(histories, table)
        states = self._fused(sequence.flatten(0, 1), transition.flatten(0, 1), companion.flatten(0, 1))
        conformity = self._conformity(windows)
        mainstream = conformity * _contrast(sequence[:, -1], transition[:, -1])
        personal = (conformity.max() - conformity) * _contrast(transition[:, -1], companion[:, -1])
        return Predictions(states, targets, CONTRAST * (mainstream + personal).mean() * len(targets))

    def _view(self, edges: Tensor, weights: Tensor, items: Tensor) -> Tensor:
        once = graphs.product(edges, weights, items)
        twice = graphs.product(edges, weights, once)
        return self.graph_norm(items + scaled(items + once + twice, 1 / 3))  # (V, D)

    def _views(self, items: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """The views of items (…) in both graphs: two of (…, D)."""
        transition, companion = functional.embedding(items, table[:, self.shape.width :]).chunk(2, -1)
        return transition, companion

    def _fused(self, *views: Tensor) -> Tensor:
        """Σ_i α_i x_i with α = softmax_i(aᵀ W x_i) over views (B, D)."""
        mixed = torch.stack(views, 1)  # (B, 3, D)
        share = (self.fusion(mixed) @ self.choice).softmax(1)
        return (share[:, :, None] * mixed).sum(1)

    @torch.no_grad()
    def _conformity(self, windows: Tensor) -> Tensor:
        """ω (B,) of each window's last history item; 0.5 for histories of one item. Mean of three cosines: the item with
        and without the batch's transitions, the item and its other neighbours, the batch's neighbours and the others."""
        if windows.shape[1] == 2 or not len(self.transitions.weights):
            return self.items.weight.new_full((len(windows),), MEAN_CONFORMITY)
        items, (edges, weights) = windows[:, -2], (self.transitions.edges, self.transitions.weights)
        held = self._held(windows)
        whole = self._view(edges, weights, self.items.weight)
        present, without = whole[items], self._view(edges, weights.masked_fill(held, 0), self.items.weight)[items]
        of_batch, others = (graphs.product(edges, some.to(weights), whole)[items] for some in (held, ~held))
        pairs = ((present, without), (present, others), (of_batch, others))
        agreement = torch.stack([functional.cosine_similarity(one, other) for one, other in pairs]).mean(0).sigmoid()
        spread = (agreement - agreement.min()) / (agreement.max() - agreement.min()).clamp(min=1e-8)
        return spread * (MEAN_CONFORMITY / spread.mean().clamp(min=1e-8))

    def _held(self, windows: Tensor) -> Tensor:
        """Marks the entries, bool (M,), of the transition graph that the windows hold, in either order."""
        before, after = windows[:, :-1].flatten(), windows[:, 1:].flatten()
        ours = torch.cat([before * self.item_count + after, after * self.item_count + before])
        keys = self.transitions.edges[0] * self.item_count + self.transitions.edges[1]
        held = torch.zeros_like(keys, dtype=torch.bool)
        places = torch.searchsorted(keys, ours).clamp(max=len(keys) - 1)
        held[places] = keys[places] == ours
        return held


def _contrast(ours: Tensor, theirs: Tensor) -> Tensor:
    """InfoNCE (B,) between two views of histories by cosine: the other histories of the batch are the negatives."""
    similarity = functional.normalize(ours, dim=1) @ functional.normalize(theirs, dim=1).T
    return similarity.logsumexp(1) - similarity.diagonal()
