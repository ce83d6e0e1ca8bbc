"""Features against naive answers in float64."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
import torch

from dealrec_core.coreset import projection, traits
from dealrec_core.coreset.methods import METHODS, NEEDS
from dealrec_core.language.language_model import weighted_mean
from dealrec_core.recommenders import features
from dealrec_core.samples.items import Catalogue
from dealrec_core.samples.sequences import Sequences
from dealrec_core.settings.language import LoraConfig
from dealrec_core.settings.surrogate import EarlyConfig, SurrogateConfig
from dealrec_core.surrogate import early, networks
from dealrec_core.surrogate.sasrec import Shape

SAMPLES = Sequences(np.array([0, 1, 2, 3, 1]), np.array([0, 2, 3, 5]), np.array([4, 0, 2]))
LORA = LoraConfig(rank=2, dropout=0.0)


def test_error_and_gradient_norms_are_those_of_the_definition():
    model = networks.build("sasrec", Shape(5, width=4, layers=1, heads=1, history_length=5), seed=0).eval()
    found = early.of_model(model, SAMPLES)
    for row in range(3):
        history = torch.from_numpy(SAMPLES.items[SAMPLES.offsets[row] : SAMPLES.offsets[row + 1]])[None]
        table = model.item_table().detach().clone().requires_grad_(True)
        state = model.last(history, model.item_table()).detach()
        shares = (state @ table.T).softmax(1)
        error = shares[0].detach().double().clone()
        error[SAMPLES.targets[row]] -= 1
        loss = -shares[0, SAMPLES.targets[row]].log()
        (by_table,) = torch.autograd.grad(loss, table)
        assert found["el2n"][row] == pytest.approx(float(error.norm()), rel=1e-5)
        assert found["grand"][row] == pytest.approx(float(by_table.double().norm()), rel=1e-5)


def test_the_category_is_the_first_level_that_tells_items_apart():
    catalogue = Catalogue(["a", "b", "c"], ["", "", ""], [["Games", "PC"], ["Games", "Wii", "x"], ["Games"]])
    assert traits.categories(catalogue) == {"a": 1, "b": 2, "c": 0}
    assert traits.categories(Catalogue(["a"], [""], [["Games"]])) == {"a": 0}


def test_traits_of_samples():
    moment = datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    samples = pl.DataFrame(
        {"user_id": ["v", "u"], "item_id": ["b", "z"], "timestamp": [moment] * 2, "history": [["a"], ["a", "b"]]},
        schema_overrides={"timestamp": pl.Datetime("us", "UTC")},
    )
    found = traits.of(samples, Catalogue(["a", "b"], ["", ""], [["x"], ["y"]]), {"b": 7.0})
    assert {name: values.tolist() for name, values in found.items()} == {
        "category": [2, 0],
        "popularity": [7.0, 0.0],
        "recency": [1e6, 1e6],
        "history_length": [1, 2],
        "owner": [1, 0],
    }


def test_pooling_weighs_later_tokens_more_and_leaves_padding_out():
    states = torch.tensor([[[1.0], [4.0], [100.0]], [[1.0], [1.0], [4.0]]])
    real = torch.tensor([[True, True, False], [True, True, True]])
    # (1·1 + 2·4) / 3 and (1 + 2 + 3·4) / 6
    assert weighted_mean(states, real)[:, 0].tolist() == pytest.approx([3.0, 2.5])


def batches(matrices: np.ndarray, size: int):
    for start in range(0, len(matrices), size):
        rows = np.arange(start, min(start + size, len(matrices)))
        yield rows, {"layer": torch.from_numpy(matrices[rows])}


def test_a_projection_keeps_inner_products_on_average_and_does_not_depend_on_batches():
    matrices = np.random.default_rng(0).normal(size=(6, 40, 3)).astype(np.float32)
    exact = matrices.reshape(6, -1) @ matrices.reshape(6, -1).T
    drawn = [projection.projected(batches(matrices, 4), 6, width=20, seed=seed)[0] for seed in range(300)]
    mean = np.mean([found @ found.T for found in drawn], axis=0)
    assert np.abs(mean - exact).max() < 0.08 * exact.max()
    assert np.allclose(drawn[0], projection.projected(batches(matrices, 1), 6, width=20, seed=0)[0])


def test_a_width_as_large_as_the_matrix_keeps_it_whole():
    matrices = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    assert np.allclose(projection.projected(batches(matrices, 2), 2, width=4, seed=0)[0], matrices.reshape(2, -1))


def test_adams_step_divides_by_the_root_of_the_mean_square():
    matrices = np.array([[[3.0], [0.0]], [[1.0], [2.0]]], dtype=np.float32)
    found = projection.adam_projected(lambda: batches(matrices, 2), lambda: batches(matrices, 1), 2, width=2, seed=0)[0]
    # mean squares 5 and 2
    assert np.allclose(found, [[3 / 5**0.5, 0.0], [1 / 5**0.5, 2 / 2**0.5]], atol=1e-6)


@pytest.mark.parametrize("method", ["random", "dsir", "targeted", "ccs", "el2n", "grand", "recranker"])
def test_methods_that_ask_the_base_nothing_never_open_it(method):
    day = datetime(2026, 1, 1, tzinfo=UTC)
    rows = {"user_id": ["u", "v"], "item_id": ["b", "c"], "timestamp": [day] * 2, "history": [["a"], ["a", "b"]]}
    samples = pl.DataFrame(rows, schema_overrides={"timestamp": pl.Datetime("us", "UTC")})
    catalogue = Catalogue(["a", "b", "c"], ["", "", ""], [["x"], ["y"], ["x"]])
    network = networks.build("sasrec", Shape(3, width=4, layers=1, heads=1, history_length=5), seed=0)
    inputs = features.FeatureInputs(
        train=samples,
        recent=samples,
        aims=samples,
        catalogue=lambda: catalogue,
        counts=lambda: {},
        base=lambda: pytest.fail("the base model was opened"),
        surrogate=lambda: (network, catalogue.item_ids),
        surrogate_config=SurrogateConfig(width=4, layers=1, heads=1, history_length=5),
        seed=0,
        device=torch.device("cpu"),
        early=EarlyConfig(initialisations=1, epochs=1),
    )
    pool, aims = features.features(set(NEEDS[method]), inputs)
    assert set(pool) == set(NEEDS[method])
    if method == "targeted":
        assert {name: values.tolist() for name, values in aims.items()} == {"item": [1, 2], "category": [2, 1]}


def test_every_method_has_its_needs_and_every_need_a_source():
    given = {name for names in features.SOURCES for name in names} | {"influence", "effort"}
    assert NEEDS.keys() == METHODS.keys()
    assert {need for needs in NEEDS.values() for need in needs} <= given
