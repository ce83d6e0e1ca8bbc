"""Item graphs by hand, and a sparse product that can be differentiated in every mode."""

from functools import partial

import numpy as np
import torch

from dealrec_core.surrogate import graphs

WINDOWS = [np.array([[0, 1, 0], [2, 0, 1]]), np.array([[1, 2]])]


def test_transitions_count_neighbours_in_both_orders_and_are_scaled_by_degrees() -> None:
    """0-1 three times (0 1, 1 0, 0 1), 0-2 once, 1-2 once, the diagonal 1, item 3 alone: degrees 5, 5, 3, 1."""
    found = graphs.transitions(WINDOWS, item_count=4).toarray()
    counts = np.array([[1, 3, 1, 0], [3, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]])
    degrees = np.array([5, 5, 3, 1])
    np.testing.assert_allclose(found, counts / np.sqrt(np.outer(degrees, degrees)))


def test_companions_are_the_nearest_by_cosine_of_windows() -> None:
    """Windows {0, 1}, {0, 1, 2}, {1, 2}: cosines 0-1 2/√6, 0-2 1/2, 1-2 2/√6. One neighbour each: 0→1, 1→0, 2→1."""
    found = graphs.companions(WINDOWS, item_count=4, neighbours=1).toarray()
    cosine = np.array([[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]]) * 2 / np.sqrt(6)
    degrees = np.array([1, 2, 1, 1]) * 2 / np.sqrt(6)
    np.testing.assert_allclose(found, cosine / np.sqrt(np.outer(degrees, degrees)))


def test_a_product_is_that_of_the_dense_matrix_and_differentiable_twice_and_forward() -> None:
    matrix = graphs.transitions(WINDOWS, item_count=4)
    graph = graphs.Graph().double()
    graph.put(matrix)
    vectors = torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    product = partial(graphs.product, graph.edges, graph.weights)
    np.testing.assert_allclose(product(vectors).detach().numpy(), matrix.toarray() @ vectors.detach().numpy())
    squared = lambda x: product(x) ** 2  # noqa: E731
    assert torch.autograd.gradcheck(squared, vectors, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(squared, vectors)


def test_items_that_came_later_have_no_neighbours() -> None:
    graph = graphs.Graph()
    graph.put(graphs.transitions(WINDOWS, item_count=3))
    assert graphs.product(graph.edges, graph.weights, torch.ones(5, 1))[3:].flatten().tolist() == [0.0, 0.0]
