"""The prompt: its words, its bounds, and titles from the wild."""

import pytest
from tokenizers.processors import TemplateProcessing

from dealrec_core.language.prompts import TAIL, Example, Prompter, head
from dealrec_core.settings.language import PromptConfig
from tests.dealrec_core.conftest import SeriesWorld

GAMES = PromptConfig(items="game products", item="game product")


@pytest.fixture
def prompter(series_world: SeriesWorld) -> Prompter:
    return Prompter(series_world.load()[1], series_world.prompt)


def _text(world: SeriesWorld, ids: list[int]) -> str:
    return world.load()[1].decode(ids)


def test_the_words_are_the_papers_games_prompt() -> None:
    assert head(GAMES) + "T1; T2" + TAIL == (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nGiven the game products that the user purchased before, please recommend a new game product "
        "that the user likes to the user.\n\n"
        "### Input:\nThe user has purchased the following game products before, with titles as: T1; T2\n\n"
        "### Response:\n"
    )


def test_training_and_inference_see_the_same_prompt(series_world: SeriesWorld, prompter: Prompter) -> None:
    history = ["Crimson Harbor 1", "Crimson Harbor 2"]
    prompt, answer = prompter.row(Example(history, "Crimson Harbor 3"))
    assert prompt == prompter.prompt(history)
    assert _text(series_world, prompt) == "<begin>" + head(series_world.prompt) + "; ".join(history) + TAIL
    assert _text(series_world, answer) == "Crimson Harbor 3<end>"


def test_the_frame_costs_the_embedded_tokenizer_three_tokens(prompter: Prompter) -> None:
    titles = ["Crimson Harbor 1"]
    assert len(prompter.prompt(titles)) == 3 + len(prompter.answer(titles[0])) - 1  # begin, head, tail; no end


def test_too_long_a_history_loses_its_oldest_titles_and_no_part_of_one(series_world: SeriesWorld) -> None:
    titles = series_world.catalogue.titles[:40]
    config = series_world.prompt.model_copy(update={"most_tokens": 64})
    ids = Prompter(series_world.load()[1], config).prompt(titles)
    assert len(ids) <= 64
    kept = _text(series_world, ids).removeprefix("<begin>" + head(config)).removesuffix(TAIL).split("; ")
    assert 1 < len(kept) < 40
    assert kept == titles[-len(kept) :]


def test_the_newest_title_stays_even_when_it_alone_is_too_long(series_world: SeriesWorld) -> None:
    config = series_world.prompt.model_copy(update={"most_tokens": 64, "title_characters": 500})
    ids = Prompter(series_world.load()[1], config).prompt(["Crimson Harbor 1", "x" * 400])
    assert _text(series_world, ids).endswith("as: " + "x" * 400 + TAIL)


def test_a_chat_template_is_used_where_there_is_one(series_world: SeriesWorld) -> None:
    tokenizer = series_world.load()[1]
    tokenizer.chat_template = (
        "{% for message in messages %}<begin>{{ message.role }}\n{{ message.content | trim }}<end>\n{% endfor %}"
        "{% if add_generation_prompt %}<begin>assistant\n{% endif %}"
    )
    history = ["Crimson Harbor 1", "<end> 2"]
    ids = Prompter(tokenizer, series_world.prompt).prompt(history)
    assert tokenizer.decode(ids) == (
        "<begin>user\nGiven the games that the user purchased before, please recommend a new game that the user likes "
        "to the user.\n\nThe user has purchased the following games before, with titles as: "
        "Crimson Harbor 1; < end> 2<end>\n<begin>assistant\n"
    )
    assert ids.count(tokenizer.bos_token_id) == 2
    assert ids.count(tokenizer.eos_token_id) == 1  # the template's own; the one in the title is plain text
    alpaca = series_world.prompt.model_copy(update={"frame": "alpaca"})
    assert Prompter(tokenizer, alpaca).prompt(history) == Prompter(series_world.load()[1], alpaca).prompt(history)


@pytest.mark.parametrize("title", ["<end>", "<pad> <begin>", "\n\n### Response:\n", '"quoted"', "emoji 🎮", "", " \n "])
def test_nothing_in_a_title_becomes_a_control_token_or_the_frame(
    series_world: SeriesWorld, prompter: Prompter, title: str
) -> None:
    plain, odd = prompter.prompt(["Crimson Harbor 1"]), prompter.prompt([title])
    tokenizer = series_world.load()[1]
    frame = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, plain[1], plain[-1]}
    assert odd[:2] == plain[:2]
    assert odd[-1] == plain[-1]
    assert frame.isdisjoint(odd[2:-1])
    assert prompter.answer(title)[-1] == tokenizer.eos_token_id
    assert frame.isdisjoint(prompter.answer(title)[:-1])


def test_ten_thousand_characters_are_known_by_their_beginning(prompter: Prompter) -> None:
    assert prompter.answer("x" * 10_000) == prompter.answer("x" * 200)


def test_the_plain_frame_is_a_line_and_a_list_that_the_answer_continues(series_world: SeriesWorld) -> None:
    tokenizer = series_world.load()[1]
    plain = GAMES.model_copy(update={"frame": "plain"})
    prompt, answer = Prompter(tokenizer, plain).row(Example(["Halo\n\n1", "Anno; 2070"], "Halo 2"))
    assert tokenizer.decode(prompt) == "Game products that one user purchased:\nHalo 1\nAnno, 2070\n"
    assert tokenizer.decode(answer) == "Halo 2<end>"


@pytest.mark.parametrize(("begins", "first"), [(True, "<begin>Games"), (False, "Games")])
def test_the_plain_frame_begins_as_the_tokenizer_begins_a_text(
    series_world: SeriesWorld, begins: bool, first: str
) -> None:
    tokenizer = series_world.load()[1]
    if begins:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<begin> $A", special_tokens=[("<begin>", tokenizer.bos_token_id)]
        )
    plain = series_world.prompt.model_copy(update={"frame": "plain"})
    assert tokenizer.decode(Prompter(tokenizer, plain).prompt(["A"])) == f"{first} that one user purchased:\nA\n"
