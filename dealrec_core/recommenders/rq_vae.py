"""RQ-VAE (Zeghidour et al. 2021; TIGER, section 3.1): an encoder and the codes of its output, learnt together.

Codebooks start from residual k-means of the untrained encoder's output, and a code that no item used in an epoch moves
to an item's residual: without both, codes die and items collide.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam

from dealrec_core.errors import NotFinite
from dealrec_core.settings.recommenders import RQVAEConfig

Layers = list[tuple[np.ndarray, np.ndarray]]
"""Weights (in, out) and biases (out,) of linear layers with ReLU between them, float64."""


@dataclass(frozen=True)
class RQVAE:
    """The parts that code vectors, and the errors of rebuilding them."""

    encoder: Layers
    centres: list[np.ndarray]
    """Codebook of each level, float64 (K, width)."""
    losses: list[float]
    """Mean squared error of the rebuilt vectors in each epoch."""


def encoded(vectors: np.ndarray, encoder: Layers) -> np.ndarray:
    """The encoder's output, float64; without layers the vectors themselves."""
    hidden = vectors
    for number, (weight, bias) in enumerate(encoder):
        hidden = hidden @ weight + bias
        if number + 1 < len(encoder):
            hidden = np.maximum(hidden, 0)
    return hidden


def train(
    vectors: np.ndarray, start: list[np.ndarray], network: nn.Sequential, *, config: RQVAEConfig, seed: int
) -> RQVAE:
    """Trains the encoder `network` in place and the codebooks, which begin at `start`, on vectors (N, D).

    Raises:
        NotFinite: the loss is NaN or infinite.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = perceptron([config.width, *reversed(config.inner_widths), vectors.shape[1]])
        books = nn.ParameterList([nn.Parameter(torch.from_numpy(level).float()) for level in start])
        items = torch.from_numpy(vectors).float()
        weights = [*network.parameters(), *decoder.parameters(), *books.parameters()]
        optimiser = Adam(weights, lr=config.learning_rate)
        losses = [_epoch(items, network, decoder, books, optimiser, config) for _ in range(config.epochs)]
    centres = [book.detach().double().numpy() for book in books]
    return RQVAE(layers_of(network), centres, losses)


def perceptron(widths: list[int]) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for wide, narrow in pairwise(widths):
        layers += [nn.Linear(wide, narrow), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def layers_of(network: nn.Sequential) -> Layers:
    """The linear layers of a perceptron."""
    return [
        (layer.weight.detach().double().numpy().T, layer.bias.detach().double().numpy())
        for layer in network
        if isinstance(layer, nn.Linear)
    ]


def _epoch(
    items: Tensor, network: nn.Module, decoder: nn.Module, books: nn.ParameterList, optimiser: Adam, config: RQVAEConfig
) -> float:
    total, used = 0.0, [torch.zeros(len(book), dtype=torch.bool) for book in books]
    for rows in torch.randperm(len(items)).split(config.batch_size):
        hidden = network(items[rows])  # (B, width)
        remainder, written, pull = hidden, torch.zeros_like(hidden), hidden.new_zeros(())
        for level, book in enumerate(books):
            code = torch.cdist(remainder.detach(), book.detach()).argmin(1)
            used[level][code] = True
            pull = pull + functional.mse_loss(book[code], remainder.detach())
            pull = pull + config.commitment * functional.mse_loss(remainder, book[code].detach())
            written, remainder = written + book[code], remainder - book[code].detach()
        rebuilt = decoder(hidden + (written - hidden).detach())  # straight through the quantiser
        error = functional.mse_loss(rebuilt, items[rows])
        if not torch.isfinite(error):
            raise NotFinite(f"the RQ-VAE's loss is {error.item()}; lower its learning_rate ({config.learning_rate})")
        optimiser.zero_grad()
        (error + pull).backward()
        optimiser.step()
        total += error.item() * len(rows)
    _revive(items, network, books, used)
    return total / len(items)


@torch.no_grad()
def _revive(items: Tensor, network: nn.Module, books: nn.ParameterList, used: list[Tensor]) -> None:
    """Codes that no item used move to the residuals of random items."""
    remainder = network(items)
    for level, book in enumerate(books):
        dead = (~used[level]).nonzero().ravel()
        if len(dead) and len(items) > len(book):
            book[dead] = remainder[torch.randint(len(items), (len(dead),))]
        remainder = remainder - book[torch.cdist(remainder, book).argmin(1)]
