import pytest

from dealrec_core.errors import DataError
from dealrec_core.language import effort
from dealrec_core.language.answer_loss import answer_losses
from dealrec_core.language.lora import with_lora
from dealrec_core.language.texts import rows_of
from dealrec_core.settings.language import LoraConfig
from tests.dealrec_core.conftest import CPU, SeriesWorld

LORA = LoraConfig(rank=4, modules="all")
TEMPLATE = (
    "{% for m in messages %}{{ '<' + m.role + '>' + m.content + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def test_a_pair_of_texts_has_the_norm_of_one_backward(series_world: SeriesWorld) -> None:
    model, tokenizer = series_world.load()
    texts = [("what comes after one", "two"), ("and after that", "a longer answer")]
    efforts = effort.score_texts(model, tokenizer, texts, lora=LORA, seed=3)
    tuned = with_lora(model, LORA, seed=3).eval()
    for place, row in enumerate(rows_of(tokenizer, texts)):
        tuned.zero_grad()
        answer_losses(tuned, [row], device=CPU).sum().backward()
        squares = [
            float(weight.grad.double().square().sum()) for weight in tuned.parameters() if weight.grad is not None
        ]
        assert efforts[place] == pytest.approx(sum(squares) ** 0.5, rel=1e-5)


def test_an_answer_ends_with_the_end_of_the_text(series_world: SeriesWorld) -> None:
    _, tokenizer = series_world.load()
    prompt, answer = rows_of(tokenizer, [("what next", "this one")])[0]
    assert tokenizer.decode(prompt) == tokenizer.decode(tokenizer("what next")["input_ids"])
    assert answer == [*tokenizer("this one", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def test_a_chat_ends_before_the_answer_and_the_answer_is_the_last_message(series_world: SeriesWorld) -> None:
    _, tokenizer = series_world.load()
    tokenizer.chat_template = TEMPLATE
    chat = [{"role": "user", "content": "what next"}, {"role": "assistant", "content": "this one"}]
    prompt, answer = rows_of(tokenizer, [chat])[0]
    assert tokenizer.decode(prompt) == "<user>what next\n<assistant>"
    assert tokenizer.decode(answer) == "this one\n"


def test_texts_that_cannot_be_scored_are_named_by_their_number(series_world: SeriesWorld) -> None:
    _, tokenizer = series_world.load()
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    with pytest.raises(DataError, match="text 0 is a chat, and the tokenizer has no chat template"):
        rows_of(tokenizer, [chat])
    with pytest.raises(DataError, match="text 1 has an empty answer; leave it out"):
        rows_of(tokenizer, [("a", "b"), ("a", "")])
    tokenizer.chat_template = TEMPLATE.replace("m.content", "m.content + messages | length | string")
    with pytest.raises(DataError, match="renders the messages before the answer of text 0 in another way"):
        rows_of(tokenizer, [chat])
