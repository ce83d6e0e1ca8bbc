"""RQ-VAE: it rebuilds better as it learns, keeps its codes alive, and codes as its network does."""

import numpy as np
import pytest
import torch

from dealrec_core.errors import NotFinite
from dealrec_core.recommenders import rq_vae, semantic_ids
from dealrec_core.recommenders.semantic_ids import SemanticIds
from dealrec_core.samples.items import Catalogue
from dealrec_core.settings.recommenders import RQVAEConfig, SemanticIdsConfig
from tests.dealrec_core.conftest import SeriesWorld

SMALL = RQVAEConfig(inner_widths=(32,), width=8, epochs=400, learning_rate=3e-3)
CODES = SemanticIdsConfig(levels=2, codes=16, width=16, quantiser="rqvae", rqvae=SMALL)


@pytest.fixture(scope="module")
def ids(series_world: SeriesWorld) -> SemanticIds:
    return semantic_ids.fit(series_world.catalogue, config=CODES, seed=0)


def test_the_numpy_encoder_says_what_the_network_says() -> None:
    network = rq_vae.perceptron([5, 4, 3])
    vectors = np.random.default_rng(0).standard_normal((6, 5))
    with torch.no_grad():
        expected = network.double()(torch.from_numpy(vectors)).numpy()
    np.testing.assert_allclose(rq_vae.encoded(vectors, rq_vae.layers_of(network)), expected, rtol=1e-12)


def test_no_layers_leave_vectors_as_they_are() -> None:
    assert rq_vae.encoded(np.eye(2), []).tolist() == [[1, 0], [0, 1]]


def test_it_rebuilds_better_as_it_learns(series_world: SeriesWorld) -> None:
    vectors = semantic_ids.fit(series_world.catalogue, config=CODES, seed=0).content.vectors(series_world.catalogue)
    learnt = semantic_ids._learnt(vectors, config=CODES, seed=0)
    nothing = float(np.square(vectors - vectors.mean(0)).mean())  # the error of answering the mean to everything
    assert learnt.losses[-1] < 0.5 * nothing
    assert learnt.losses[-1] < learnt.losses[0]


def test_most_codes_are_alive_and_every_item_has_its_own(series_world: SeriesWorld, ids: SemanticIds) -> None:
    assert len(np.unique(ids.codes, axis=0)) == 120
    assert len(np.unique(ids.codes[:, 0])) >= 12  # of 16


def test_new_items_are_coded_without_touching_old_codes(series_world: SeriesWorld, ids: SemanticIds) -> None:
    known = series_world.catalogue
    grown = Catalogue([*known.item_ids, "new"], [*known.titles, known.titles[0]], [*known.categories, []])
    found = ids.extended(grown)
    np.testing.assert_array_equal(found.codes[:-1], ids.codes)
    assert found.codes[-1, :-1].tolist() == ids.codes[0, :-1].tolist()
    assert found.codes[-1, -1] > ids.codes[0, -1]


def test_the_same_seed_gives_the_same_codes(series_world: SeriesWorld, ids: SemanticIds) -> None:
    np.testing.assert_array_equal(semantic_ids.fit(series_world.catalogue, config=CODES, seed=0).codes, ids.codes)


def test_a_loss_that_is_not_finite_is_one_clear_line(series_world: SeriesWorld) -> None:
    with pytest.raises(NotFinite, match="the RQ-VAE's loss is"):
        rq_vae.train(np.full((4, 3), np.nan), [np.zeros((2, 8))], rq_vae.perceptron([3, 8]), config=SMALL, seed=0)
