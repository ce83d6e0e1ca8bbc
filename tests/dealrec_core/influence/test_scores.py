"""Scores against the naive answer: one autograd gradient per sample and dense matrices, in float64."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional

from dealrec_core import influence
from dealrec_core.errors import DataError, NotConverged, NotFinite, NumericsError, SettingsError
from dealrec_core.influence import operators
from dealrec_core.influence.losses import Loss
from dealrec_core.influence.scores import problem_of
from dealrec_core.samples.sequences import Sequences
from dealrec_core.settings.influence import InfluenceConfig
from dealrec_core.surrogate import networks
from dealrec_core.surrogate.sasrec import Shape
from dealrec_core.surrogate.windows import windows

ITEMS, WIDTH = 7, 4
LOSSES = ("softmax", "sampled", "bce")


def sequences(count: int, *, seed: int, items: int = ITEMS) -> Sequences:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 5, count)
    return Sequences(
        random.integers(0, items, lengths.sum()),
        np.concatenate([[0], np.cumsum(lengths)]),
        random.integers(0, items, count),
    )


def model(name: str = "sasrec", *, seed: int = 0):
    built = networks.build(name, Shape(ITEMS, width=WIDTH, layers=2, heads=2, history_length=6), seed=seed).double()
    built.read(windows(sequences(20, seed=9), length=6))
    with torch.no_grad():  # larger weights than at the start, so that curvature is not all of one size
        for value in built.parameters():
            value.add_(0.5 * torch.randn(value.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    return built.eval()


def naive_losses(network, samples: Sequences, *, loss: str, negatives: dict[int, float]) -> list[torch.Tensor]:
    """One scalar per sample, straight from the definitions in losses.py; `negatives` stand for so many items each."""
    answers = []
    for row in range(len(samples)):
        history = torch.from_numpy(samples.items[samples.offsets[row] : samples.offsets[row + 1]])
        target = int(samples.targets[row])
        table = network.item_table()
        scores = table[:, :WIDTH] @ network.last(history[None], table)[0]
        others = [int(item) for item in negatives if item != target]
        if loss == "softmax":
            answers.append(functional.cross_entropy(scores, torch.tensor(target)))
        elif loss == "sampled":
            partition = scores[target].exp() + sum(negatives[item] * scores[item].exp() for item in others)
            answers.append(partition.log() - scores[target])
        else:
            wrong = sum(negatives[item] * functional.softplus(scores[item]) for item in others) / (ITEMS - 1)
            answers.append(functional.softplus(-scores[target]) + wrong)
    return answers


def naive_gradients(network, samples: Sequences, names: list[str], **options) -> torch.Tensor:
    chosen = [dict(network.named_parameters())[name] for name in names]
    rows = []
    for value in naive_losses(network, samples, **options):
        parts = torch.autograd.grad(value, chosen, materialize_grads=True)
        rows.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(rows)  # (N, P)


def naive_gauss_newton(network, samples: Sequences, names: list[str], *, loss: str, negatives: dict[int, float]):
    return naive_curvatures(network, samples, names, loss=loss, negatives=negatives).mean(0)


def naive_curvatures(network, samples: Sequences, names: list[str], *, loss: str, negatives: dict[int, float]):
    """Gauss-Newton matrix of each sample, (N, P, P)."""
    chosen = [dict(network.named_parameters())[name] for name in names]
    found = []
    for row in range(len(samples)):
        history = torch.from_numpy(samples.items[samples.offsets[row] : samples.offsets[row + 1]])
        target = int(samples.targets[row])
        table = network.item_table()
        scores = table[:, :WIDTH] @ network.last(history[None], table)[0]
        jacobian = torch.stack(
            [
                torch.cat(
                    [p.flatten() for p in torch.autograd.grad(z, chosen, retain_graph=True, materialize_grads=True)]
                )
                for z in scores
            ]
        )  # (V, P)
        others = [int(item) for item in negatives if item != target]
        z = scores.detach()
        curvature = torch.zeros(ITEMS, ITEMS, dtype=torch.float64)
        if loss == "bce":
            weight = torch.zeros(ITEMS, dtype=torch.float64)
            for item in others:
                weight[item] = negatives[item] / (ITEMS - 1)
            weight[target] = 1.0
            curvature = torch.diag(weight * z.sigmoid() * (1 - z.sigmoid()))
        else:
            mass = z.exp()
            if loss == "sampled":
                mass = torch.zeros_like(mass)
                for item in others:
                    mass[item] = negatives[item] * z[item].exp()
                mass[target] = z[target].exp()
            share = mass / mass.sum()
            curvature = torch.diag(share) - torch.outer(share, share)
        found.append(jacobian.T @ curvature @ jacobian)
    return torch.stack(found)


def naive_hessian(network, samples: Sequences, names: list[str], **options) -> torch.Tensor:
    chosen = [dict(network.named_parameters())[name] for name in names]
    mean = torch.stack(naive_losses(network, samples, **options)).mean()
    first = torch.cat([part.flatten() for part in torch.autograd.grad(mean, chosen, create_graph=True)])
    rows = [torch.autograd.grad(entry, chosen, retain_graph=True, materialize_grads=True) for entry in first]
    return torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])


def negatives_of(network, train: Sequences, config: InfluenceConfig, *, seed: int) -> dict[int, float]:
    """Each negative with the number of items that it stands for."""
    loss = problem_of(network, train, config=config, seed=seed).loss
    if loss.negatives is None:
        return {}
    even = [(ITEMS - 1) / len(loss.negatives)] * len(loss.negatives)
    return dict(zip(loss.negatives.tolist(), even if loss.counts is None else loss.counts.tolist(), strict=True))


def names_of(network, which: str) -> list[str]:
    every = [name for name, _ in network.named_parameters()]
    if which == "all":
        return every
    wanted = network.released_parameter if which == "released" else which.removeprefix("layer:")
    return [name for name in every if f"{name}.".startswith(f"{wanted}.")]


SOLVERS: dict[str, dict[str, object]] = {
    "cg": {"damping": 0.25, "tolerance": 1e-8},
    "cg, prepared": {"damping": 0.25, "tolerance": 1e-8, "part_samples": 4},
    "cg, hessian": {
        "curvature": "hessian",
        "damping": 3.0,
        "damping_rule": "top",
        "parameters": "layer:items",
        "tolerance": 1e-9,
    },
    "lissa": {"solver": "lissa", "damping": 2.0, "tolerance": 1e-8},
    "exact": {"solver": "exact", "parameters": "layer:items"},
    "identity": {"solver": "identity"},
    "released": {"solver": "released"},
}
"""layer:items reaches the logits from both sides of every network, and through the graphs of DCRec, at 28 weights."""
RELEASED_STEPS = 5


@pytest.mark.parametrize("name", list(networks.NETWORKS))
@pytest.mark.parametrize("loss", LOSSES)
def test_scores_and_q_of_every_solver_equal_the_naive_dense_answer(name: str, loss: str, monkeypatch) -> None:
    network, train, risk = model(name), sequences(8, seed=2), sequences(4, seed=3)
    monkeypatch.setattr(influence.inverse, "released", partial(influence.inverse.released, steps=RELEASED_STEPS))
    for solver, settings in SOLVERS.items():
        config = InfluenceConfig(loss=loss, negatives=4, **settings)
        found = influence.score(network, train, risk, config=config, seed=5)
        gradients, q = dense_answer(network, train, risk, config, found, seed=5)
        expected = (gradients @ q).numpy() / len(train)
        assert np.linalg.norm(found.q - q.numpy()) <= 1e-4 * np.linalg.norm(q.numpy()), solver
        assert np.linalg.norm(found.scores - expected) <= 1e-6 * np.linalg.norm(expected), solver


def dense_answer(network, train, risk, config: InfluenceConfig, found, *, seed: int):
    """Gradients (N, P) of the train samples and q (P,), by matrices."""
    options = {"loss": config.loss, "negatives": negatives_of(network, train, config, seed=seed)}
    names = names_of(network, config.parameters)
    gradients = naive_gradients(network, train, names, **options)
    v = naive_gradients(network, risk, names, **options).mean(0)
    if config.solver == "identity":
        return gradients, v
    if config.curvature == "hessian":
        operator = naive_hessian(network, train, names, **options)
        return gradients, torch.linalg.solve(operator + found.damping * torch.eye(len(v)), v)
    each = naive_curvatures(network, train, names, **options)
    if config.solver == "released":
        random, q = np.random.default_rng(seed), v
        for _ in range(RELEASED_STEPS):
            q = v + 0.99 * q - each[random.integers(len(train), size=1)[0]] @ q / 25
        return gradients, q / 25
    return gradients, torch.linalg.solve(each.mean(0) + found.damping * torch.eye(len(v)), v)


PARTS = [
    ("sasrec", "released"),
    ("sasrec", "layer:blocks.1"),
    ("sasrec", "layer:blocks.0.attention.value"),
    ("sasrec", "layer:items"),
    ("bert4rec", "released"),
    ("gru4rec", "layer:cells.0.recurrent"),
    ("dcrec", "released"),
    ("dcrec", "layer:fusion"),
    ("dcrec", "layer:graph_norm"),
]


@pytest.mark.parametrize(("name", "which"), PARTS)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_part_of_the_parameters_gives_the_naive_answer_for_that_part(name: str, which: str, loss: str) -> None:
    network, train, risk = model(name), sequences(9, seed=2), sequences(4, seed=3)
    config = InfluenceConfig(loss=loss, negatives=3, parameters=which, solver="exact")
    found = influence.score(network, train, risk, config=config, seed=5)
    options = {"loss": loss, "negatives": negatives_of(network, train, config, seed=5)}
    names = names_of(network, which)
    v = naive_gradients(network, risk, names, **options).mean(0)
    operator = naive_gauss_newton(network, train, names, **options) + found.damping * torch.eye(len(v))
    expected = (naive_gradients(network, train, names, **options) @ torch.linalg.solve(operator, v)).numpy() / len(
        train
    )
    np.testing.assert_allclose(found.scores, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_the_damping_follows_its_rule() -> None:
    network, train, risk = model(), sequences(12, seed=2), sequences(5, seed=3)
    config = InfluenceConfig(damping=0.25, damping_rule="top", tolerance=1e-8)
    found = influence.score(network, train, risk, config=config, seed=0)
    dense = naive_gauss_newton(network, train, names_of(network, "all"), loss="softmax", negatives={})
    top = torch.linalg.eigvalsh(dense)[-1].item()
    assert found.damping == pytest.approx(0.25 * top, rel=1e-2)
    assert found.damping == pytest.approx(0.25 * found.top_eigenvalue)
    config = InfluenceConfig(damping=2.0, damping_rule="trace")
    found = influence.score(network, train, risk, config=config, seed=0)
    assert found.damping == pytest.approx(2 * dense.trace().item() / 12, rel=0.15)  # fewer samples than weights


def test_float32_agrees_with_float64() -> None:
    network, train, risk = model(), sequences(40, seed=2), sequences(5, seed=3)
    config = InfluenceConfig(solver="identity")
    exact = influence.score(network, train, risk, config=config, seed=0).scores
    found = influence.score(network.float(), train, risk, config=config, seed=0).scores
    # The layer norms of so narrow a network (4 values) magnify rounding about a hundredfold.
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-4 * np.abs(exact).max())


@pytest.mark.parametrize("name", list(networks.NETWORKS))
@pytest.mark.parametrize("loss", LOSSES)
def test_scores_are_the_same_in_every_run_batch_size_and_order_of_samples(name: str, loss: str) -> None:
    network, train, risk = model(name), sequences(12, seed=2), sequences(4, seed=3)
    order = np.random.default_rng(0).permutation(12)
    config = InfluenceConfig(loss=loss, negatives=4, damping=0.5, tolerance=1e-8, part_samples=5)
    straight, again = (influence.score(network, train, risk, config=config, seed=0).scores for _ in range(2))
    assert straight.tobytes() == again.tobytes()
    one_by_one = config.model_copy(update={"batch_tokens": 1})
    found = influence.score(network, train.take(order), risk, config=one_by_one, seed=0).scores
    np.testing.assert_allclose(found, straight[order], rtol=0, atol=1e-8 * np.abs(straight).max())


def test_the_same_call_gives_the_same_bytes_and_leaves_the_model_alone() -> None:
    network, train, risk = model(), sequences(30, seed=2), sequences(8, seed=3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first, second = (influence.score(network, train, risk, config=InfluenceConfig(), seed=0) for _ in range(2))
    assert first.scores.tobytes() == second.scores.tobytes()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(value.requires_grad and value.grad is None for value in network.parameters())


def test_leaving_out_a_sample_moves_the_risk_as_predicted() -> None:
    """On a quadratic problem's own terms: one Newton step at the optimum of a damped model, to first order in 1/n."""
    network, train, risk = model(), sequences(12, seed=2), sequences(5, seed=3)
    found = influence.score(network, train, risk, config=InfluenceConfig(tolerance=1e-9), seed=0)
    names = names_of(network, "all")
    options = {"loss": "softmax", "negatives": {}}
    operator = naive_gauss_newton(network, train, names, **options) + found.damping * torch.eye(len(found.q))
    step = torch.linalg.solve(operator, naive_gradients(network, train, names, **options)[3]) / len(train)
    v = naive_gradients(network, risk, names, **options).mean(0)
    assert found.scores[3] == pytest.approx((v @ step).item(), rel=1e-6)


@pytest.mark.parametrize("name", list(networks.NETWORKS))
@pytest.mark.parametrize("loss", ["softmax", "sampled"])
def test_nan_weights_are_named(name: str, loss: str) -> None:
    network, config = model(name), InfluenceConfig(loss=loss, negatives=3)
    with torch.no_grad():
        network.items.weight[2, 0] = torch.nan
    with pytest.raises(NotFinite, match=r"NaN or infinite; check the surrogate's weights"):
        influence.score(network, sequences(5, seed=0), sequences(5, seed=1), config=config, seed=0)


def test_a_sample_with_an_infinite_score_is_named() -> None:
    network = model()
    train = Sequences(np.array([0, 1, 2]), np.array([0, 1, 2, 3]), np.array([0, 1, 0]))
    loss = influence.losses.Loss("bce", torch.tensor([3]), ITEMS)
    with torch.no_grad():
        network.items.weight[2] = torch.inf
    problem = influence.operators.problem(
        network, loss, config=influence.InfluenceConfig(parameters="released", batch_tokens=100), device="cpu"
    )
    along = torch.ones(problem.parameters.size, dtype=torch.float64)
    with pytest.raises(NotFinite, match=r"1 of 3 samples .* first sample 2"):
        influence.operators.directional(problem, train, along)


@pytest.mark.parametrize("which", ["all", "released"])
@pytest.mark.parametrize("name", list(networks.NETWORKS))
def test_bf16_rounds_the_network_and_nothing_else(name: str, which: str) -> None:
    """bfloat16 keeps 8 bits: scores agree to a few per cent, and what is summed stays float32."""
    network, train, risk = model(name).float(), sequences(40, seed=2), sequences(20, seed=3)
    config = InfluenceConfig(parameters=which, damping=1.0, tolerance=1e-2)
    exact, found = (
        influence.score(network, train, risk, config=config.model_copy(update={"precision": precision}), seed=0)
        for precision in ("float32", "bf16")
    )
    assert found.q.dtype == np.float32
    error = np.linalg.norm(found.scores - exact.scores) / np.linalg.norm(exact.scores)
    assert 1e-5 < error < 0.1


def test_the_percent_done_rises_with_every_product_to_the_whole_once_the_scores_are_there() -> None:
    seen: list[tuple[int, int]] = []
    config = InfluenceConfig(damping=0.1, tolerance=1e-6, part_samples=4)
    train, risk = sequences(12, seed=1), sequences(5, seed=2)
    result = influence.score(model(), train, risk, config=config, progress=lambda *done: seen.append(done))
    assert seen == sorted(seen)
    assert seen[0][0] < 90
    assert seen[-2:] == [(90, 100), (100, 100)]  # at the tolerance, then with the scores
    assert len(seen) > result.products  # the cheap products count, too


def test_too_few_steps_say_what_to_change() -> None:
    config = InfluenceConfig(most_steps=2, tolerance=1e-9, damping=1e-3)
    with pytest.raises(
        NotConverged, match=r"residual .* after 2 products, but the tolerance is 1.0e-09; raise influence.damping"
    ):
        influence.score(model(), sequences(20, seed=0), sequences(5, seed=1), config=config, seed=0)


def test_negative_curvature_of_the_hessian_is_detected() -> None:
    config = InfluenceConfig(curvature="hessian", damping=1e-3)
    with pytest.raises(NumericsError, match=r"negative curvature: eigenvalue -.*gauss_newton"):
        influence.score(model(), sequences(20, seed=0), sequences(5, seed=1), config=config, seed=0)


@pytest.mark.parametrize(("name", "layer"), [("sasrec", "blocks.0.attention.key"), ("dcrec", "fusion")])
def test_an_unknown_layer_lists_the_layers(name: str, layer: str) -> None:
    with pytest.raises(SettingsError, match=rf"layer:nowhere.*{layer}.*items"):
        influence.score(
            model(name),
            sequences(5, seed=0),
            sequences(5, seed=1),
            config=InfluenceConfig(parameters="layer:nowhere"),
            seed=0,
        )


def test_an_empty_risk_names_the_next_step() -> None:
    with pytest.raises(DataError, match=r"0 risk samples; raise samples.validation_fraction"):
        influence.score(model(), sequences(5, seed=0), sequences(0, seed=1), config=InfluenceConfig(), seed=0)


def test_lissa_that_runs_out_of_products_says_so() -> None:
    config = InfluenceConfig(solver="lissa", lissa_samples=2, tolerance=1e-6, most_steps=30)
    with pytest.raises(
        NotConverged, match=r"after \d+ products, but the tolerance is 1.0e-06; .*influence.lissa_samples"
    ):
        influence.score(model(), sequences(20, seed=0), sequences(5, seed=1), config=config, seed=0)


def test_without_the_target_a_history_of_one_item_scores_nothing() -> None:
    network = model()
    train = Sequences(np.array([1, 2, 3, 4]), np.array([0, 1, 3, 4]), np.array([5, 6, 0]))
    shorter = Sequences(np.array([2]), np.array([0, 1]), np.array([3]))
    config = InfluenceConfig(solver="identity", target="released")
    found = influence.score(network, train, train, config=config, seed=0).scores
    assert found[[0, 2]].tolist() == [0.0, 0.0]
    alone = influence.score(network, shorter, shorter, config=InfluenceConfig(solver="identity"), seed=0).scores
    assert found[1] == pytest.approx(alone[0] / 3)


@pytest.mark.parametrize("which", ["all", "released"])
def test_preparing_on_a_part_gives_the_q_of_plain_conjugate_gradients(which: str) -> None:
    network, train, risk = model(), sequences(40, seed=2), sequences(5, seed=3)
    settings = {"parameters": which, "tolerance": 1e-8, "most_steps": 500}
    found = influence.score(network, train, risk, config=InfluenceConfig(**settings, part_samples=10), seed=0)
    settings |= {"damping": found.damping, "damping_rule": "absolute"}
    wanted = influence.score(network, train, risk, config=InfluenceConfig(**settings), seed=0)
    assert found.residual <= 1e-8
    assert np.linalg.norm(found.q - wanted.q) <= 1e-6 * np.linalg.norm(wanted.q)


@pytest.mark.parametrize("which", ["all", "released"])
@pytest.mark.parametrize("loss", LOSSES)
def test_preparing_with_drawn_outputs_gives_the_q_of_plain_conjugate_gradients(which: str, loss: str) -> None:
    shape = Shape(40, width=WIDTH, layers=2, heads=2, history_length=6)
    network = networks.build("sasrec", shape, seed=0).double().eval()
    train, risk = sequences(500, seed=2, items=40), sequences(5, seed=3, items=40)
    settings = {
        "parameters": which,
        "loss": loss,
        "negatives": 30,
        "damping": 0.3,
        "tolerance": 1e-8,
        "most_steps": 500,
    }
    found = influence.score(network, train, risk, config=InfluenceConfig(**settings, part_outputs=4), seed=0)
    settings |= {"damping": found.damping, "damping_rule": "absolute", "part_samples": None}
    wanted = influence.score(network, train, risk, config=InfluenceConfig(**settings), seed=0)
    assert found.residual <= 1e-8
    assert found.products < wanted.products or which == "released"  # 16 weights: as many products solve anything
    assert np.linalg.norm(found.q - wanted.q) <= 1e-6 * np.linalg.norm(wanted.q)


def test_preparing_that_runs_out_of_products_says_so() -> None:
    config = InfluenceConfig(part_samples=2, tolerance=1e-9, damping=1e-4, most_steps=3)
    with pytest.raises(
        NotConverged, match=r"residual .*the tolerance is 1.0e-09; raise influence.damping .*part_samples"
    ):
        influence.score(model(), sequences(20, seed=0), sequences(5, seed=1), config=config, seed=0)


def test_a_kept_layer_names_the_sample_whose_score_is_not_finite() -> None:
    network, train, risk = model(), sequences(5, seed=0), sequences(5, seed=1)
    config = InfluenceConfig(parameters="released", solver="exact")
    with torch.no_grad():
        network.items.weight[2, 0] = torch.nan
    with pytest.raises(NotFinite, match="NaN or infinite"):
        influence.score(network, train, risk, config=config, seed=0)


def test_as_many_curvature_samples_as_there_are_change_nothing() -> None:
    network, train, risk = model(), sequences(12, seed=2), sequences(5, seed=3)
    whole, same, fewer = (
        influence.score(network, train, risk, config=InfluenceConfig(curvature_samples=count), seed=0)
        for count in (None, 12, 4)
    )
    assert whole.scores.tobytes() == same.scores.tobytes()
    assert not np.allclose(fewer.scores, whole.scores)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_objective_ranking_is_the_naive_mean_over_the_targets_within_reach(loss: str) -> None:
    network, train, risk = model(), sequences(12, seed=2), sequences(9, seed=3)
    config = InfluenceConfig(
        objective="ranking", reach=3, loss=loss, negatives=4, solver="exact", parameters="layer:items", damping=0.5
    )
    negatives = negatives_of(network, train, config, seed=0)
    stands_for = negatives or dict.fromkeys(range(ITEMS), 1.0)
    within = []
    for row in range(len(risk)):
        history = torch.from_numpy(risk.items[risk.offsets[row] : risk.offsets[row + 1]])
        target, table = int(risk.targets[row]), network.item_table()
        scores = table[:, :WIDTH] @ network.last(history[None], table)[0]
        ahead = sum(count for item, count in stands_for.items() if item != target and scores[item] > scores[target])
        within.append(ahead < 3)
    assert 0 < sum(within) < len(risk)
    result = influence.score(network, train, risk, config=config, seed=0)
    assert result.risk_count == sum(within)
    names, options = names_of(network, "layer:items"), {"loss": loss, "negatives": negatives}
    v = naive_gradients(network, risk, names, **options)[within].mean(0)
    curvature = naive_gauss_newton(network, train, names, **options)
    shift = result.damping * torch.eye(len(v), dtype=torch.float64)
    expected = naive_gradients(network, train, names, **options) @ torch.linalg.solve(curvature + shift, v) / len(train)
    np.testing.assert_allclose(result.scores, expected, rtol=1e-6, atol=1e-10)


def test_ranks_count_the_items_ahead_and_half_of_the_equals() -> None:
    # Logits of state 1 over items 3, 1, 1, 0: nothing is before item 0; items 1 and 2 are behind one and level with each other.
    table, state = torch.tensor([[3.0], [1.0], [1.0], [0.0]]), torch.ones(4, 1)
    assert Loss("softmax", None, 4).ranks(state, table, torch.arange(4)).tolist() == [0.0, 1.5, 1.5, 3.0]
    # Item 0 alone stands for the three others: it is ahead of item 3 three times, and of itself never.
    assert Loss("sampled", torch.tensor([0]), 4).ranks(state, table, torch.arange(4)).tolist() == [0.0, 3.0, 3.0, 3.0]


def test_where_no_target_is_within_reach_all_of_them_count_and_the_log_says_so(caplog) -> None:
    network, train = model(), sequences(8, seed=2)
    risk = sequences(30, seed=3)
    problem = problem_of(network, train, config=InfluenceConfig(), seed=0)
    risk = risk.take(np.flatnonzero(operators.ranks(problem, risk) >= 1))
    ranking = InfluenceConfig(objective="ranking", reach=1)
    result = influence.score(network, train, risk, config=ranking, seed=0)
    assert f"no target of {len(risk)} risk samples is among the first 1: all count" in caplog.text
    assert result.risk_count == 0
    assert result.carried is None  # the next night computes anew
    assert (result.scores == influence.score(network, train, risk, config=InfluenceConfig(), seed=0).scores).all()
