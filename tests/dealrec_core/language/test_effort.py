"""Effort against one backward per sample, and its independence of batches, padding and the model's state."""

import numpy as np
import pytest
import torch
from peft import PeftModel
from torch import nn

from dealrec_core.errors import NotFinite
from dealrec_core.language import effort
from dealrec_core.language.answer_loss import answer_losses, example_losses
from dealrec_core.language.lora import with_lora
from dealrec_core.language.prompts import Example, Prompter
from dealrec_core.settings.language import EffortConfig, LoraConfig
from tests.dealrec_core.conftest import CPU, SeriesWorld

LORA = LoraConfig(rank=4, modules="all")


def _score(
    world: SeriesWorld, examples: list[Example], *, model: PeftModel | None = None, **config: object
) -> np.ndarray:
    plain, tokenizer = world.load()
    return effort.score(
        plain if model is None else model,
        tokenizer,
        examples,
        prompt=world.prompt,
        config=EffortConfig(**config),
        lora=LORA,
        seed=3,
        device=CPU,
    )


def _trained_adapter(world: SeriesWorld) -> PeftModel:
    """An adapter whose B is not zero, so that the gradients of A count."""
    tuned = with_lora(world.load()[0], LORA, seed=3)
    generator = torch.Generator().manual_seed(5)
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            weight.data = 0.05 * torch.randn(weight.shape, generator=generator)
    return tuned


def _one_by_one(model: PeftModel, world: SeriesWorld, examples: list[Example], wanted: str = "lora_") -> np.ndarray:
    """The definition: one backward per sample, then the norm over the wanted weights."""
    prompter = Prompter(world.load()[1], world.prompt)
    found = []
    for example in examples:
        model.zero_grad()
        answer_losses(model.eval(), [prompter.row(example)], device=CPU).sum().backward()
        weights = [weight for name, weight in model.named_parameters() if wanted in name and weight.grad is not None]
        found.append(sum(float(weight.grad.double().square().sum()) for weight in weights) ** 0.5)
    return np.array(found)


def _mixed(world: SeriesWorld) -> list[Example]:
    """Histories of 1 to 6 titles, in no order of length."""
    return [
        Example(example.history[: 1 + (7 * place) % 6], example.target, example.sample_id)
        for place, example in enumerate(world.examples(20))
    ]


def test_a_fresh_adapter_gives_the_norms_of_one_backward_per_sample(series_world: SeriesWorld) -> None:
    examples = _mixed(series_world)
    expected = _one_by_one(with_lora(series_world.load()[0], LORA, seed=3), series_world, examples)
    np.testing.assert_allclose(_score(series_world, examples), expected, rtol=1e-5)


def test_a_trained_adapter_gives_the_norms_of_one_backward_per_sample(series_world: SeriesWorld) -> None:
    examples, tuned = _mixed(series_world), _trained_adapter(series_world)
    expected = _one_by_one(tuned, series_world, examples)
    np.testing.assert_allclose(_score(series_world, examples, model=tuned), expected, rtol=1e-5)


def test_the_last_b_alone_is_the_norm_of_that_matrix(series_world: SeriesWorld) -> None:
    examples, tuned = _mixed(series_world), _trained_adapter(series_world)
    last = [name for name, _ in tuned.named_parameters() if "lora_B" in name][-1]
    expected = _one_by_one(tuned, series_world, examples, wanted=last)
    np.testing.assert_allclose(_score(series_world, examples, model=tuned, parameters="last"), expected, rtol=1e-5)


@pytest.mark.parametrize("batch_tokens", [1, 100, 100_000])
@pytest.mark.parametrize("parameters", ["all", "last"])
def test_scores_do_not_depend_on_the_batch(series_world: SeriesWorld, batch_tokens: int, parameters: str) -> None:
    examples = _mixed(series_world)
    alone = np.concatenate([_score(series_world, [example], parameters=parameters) for example in examples])
    together = _score(series_world, examples, parameters=parameters, batch_tokens=batch_tokens)
    np.testing.assert_allclose(together, alone, rtol=1e-5)


def test_odd_titles_have_an_effort_like_any_other_and_change_none_beside_them(series_world: SeriesWorld) -> None:
    odd = ["", " \n ", "\n\n### Response:\n", '"quoted"', "emoji 🎮", "<end>", "x" * 10_000]
    usual = _mixed(series_world)
    strange = [Example([title, title], title, f"odd {number}") for number, title in enumerate(odd)]
    found = _score(series_world, [*strange, *usual])
    assert np.isfinite(found).all()
    assert (found > 0).all()
    np.testing.assert_allclose(found[len(odd) :], _score(series_world, usual), rtol=1e-5)


def test_the_squares_of_the_gradients_add_up_to_the_square_of_the_effort(series_world: SeriesWorld) -> None:
    examples, tuned = _mixed(series_world), _trained_adapter(series_world)
    prompter = Prompter(series_world.load()[1], series_world.prompt)
    squares = np.zeros(len(examples))
    for rows, matrices in effort.gradients(tuned.eval(), example_losses(tuned, prompter, examples, batch_tokens=300)):
        assert len(matrices) == 2 * 7 * 2  # 2 blocks, 7 linear layers each, A and B
        squares[rows] = sum(matrix.double().square().sum((1, 2)).numpy() for matrix in matrices.values())
    np.testing.assert_allclose(np.sqrt(squares), _score(series_world, examples, model=tuned), rtol=1e-5)


def test_prompt_tokens_count_only_when_asked(series_world: SeriesWorld) -> None:
    examples = _mixed(series_world)
    tuned = with_lora(series_world.load()[0], LORA, seed=3).eval()
    prompter = Prompter(series_world.load()[1], series_world.prompt)
    prompt, answer = prompter.row(examples[0])
    ids = torch.tensor([[*prompt, *answer]])
    tuned(input_ids=ids, labels=ids).loss.backward()  # the library's own mean over all tokens but the first
    expected = sum(float(w.grad.double().square().sum()) for w in tuned.parameters() if w.grad is not None) ** 0.5
    assert _score(series_world, examples[:1], tokens="all")[0] == pytest.approx(expected, rel=1e-5)
    assert _score(series_world, examples[:1])[0] != pytest.approx(expected, rel=1e-2)


def test_the_model_comes_back_as_it_was(series_world: SeriesWorld) -> None:
    model, tokenizer = series_world.load()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    effort.score(
        model,
        tokenizer,
        _mixed(series_world),
        prompt=series_world.prompt,
        config=EffortConfig(),
        lora=LORA,
        seed=3,
        device=CPU,
    )
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(weight.requires_grad for weight in model.parameters())


def test_a_norm_that_is_not_finite_names_the_sample(series_world: SeriesWorld) -> None:
    model, tokenizer = series_world.load()
    head = model.get_output_embeddings()
    assert isinstance(head, nn.Linear)
    head.weight.data[0] = float("nan")
    with pytest.raises(NotFinite, match="effort of sample 's0' is nan"):
        effort.score(
            model,
            tokenizer,
            series_world.examples(2),
            prompt=series_world.prompt,
            config=EffortConfig(),
            lora=LORA,
            seed=3,
            device=CPU,
        )


def test_no_examples_give_no_scores(series_world: SeriesWorld) -> None:
    assert _score(series_world, []).shape == (0,)
