import hashlib
import io
import json
from datetime import UTC, datetime

import polars as pl

from dealrec_core.coreset import emission
from dealrec_core.language.prompts import TAIL, head
from dealrec_core.samples.items import Catalogue
from dealrec_core.settings.language import PromptConfig

CATALOGUE = Catalogue(["a", "b", "c"], ["Anno  2070", "Bomberman", "Céleste"], [[], [], []])
PROMPT = PromptConfig(items="games", item="game", chosen="played")
CHOSEN = pl.DataFrame(
    {
        "sample_id": ["s2", "s1"],
        "user_id": ["u2", "u1"],
        "item_id": ["c", "b"],
        "timestamp": [datetime(2020, 1, 2, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC)],
        "history": [["b", "a", "b"], ["a"]],
        "score": [0.5, 1.5],
        "influence": [0.1, 0.2],
        "effort": [1.0, 2.0],
        "group": [3, 4],
        "reason": ["dealrec: 2 of 9"] * 2,
    },
    schema_overrides={"group": pl.Int32, "timestamp": pl.Datetime("us", "UTC")},
)
FACTS = {"night": "2020-01-03-abc", "seed": 0, "tables": {"samples": 4}}


def made(chosen: pl.DataFrame = CHOSEN) -> dict[str, bytes]:
    return emission.files(chosen, CATALOGUE, prompt=PROMPT, history_length=2, facts=FACTS)


def lines(name: str) -> list[dict]:
    return [json.loads(line) for line in made()[name].decode().splitlines()]


def test_an_alpaca_line_in_its_frame_is_the_prompt_that_fine_tuning_sees():
    first, second = lines(emission.ALPACA)
    frame = (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
        f"### Instruction:\n{second['instruction']}\n\n### Input:\n{second['input']}{TAIL}"
    )
    assert frame == head(PROMPT) + "Anno 2070; Bomberman" + TAIL  # the newest two titles, on one line each
    assert second["output"] == "Céleste"
    assert first["output"] == "Bomberman"


def test_a_chat_line_is_one_user_and_one_assistant_message():
    found = lines(emission.CHAT)[0]["messages"]
    assert [message["role"] for message in found] == ["user", "assistant"]
    assert found[0]["content"].endswith("with titles as: Anno 2070")
    assert found[1]["content"] == "Bomberman"


def test_the_plain_frame_is_emitted_as_one_text_without_an_instruction():
    plain = PROMPT.model_copy(update={"frame": "plain"})
    contents = emission.files(CHOSEN, CATALOGUE, prompt=plain, history_length=2, facts=FACTS)
    alpaca, chat = (json.loads(contents[name].decode().splitlines()[1]) for name in (emission.ALPACA, emission.CHAT))
    assert alpaca == {"instruction": "", "input": head(plain) + "Anno 2070\nBomberman", "output": "Céleste"}
    assert [message["content"] for message in chat["messages"]] == [alpaca["input"], "Céleste"]


def test_line_n_is_row_n_of_the_parquet_file():
    rows = pl.read_parquet(io.BytesIO(made()[emission.PARQUET]))
    assert rows["sample_id"].to_list() == ["s1", "s2"]
    assert rows["title"].to_list() == [line["output"] for line in lines(emission.ALPACA)]
    assert rows["history_titles"].to_list()[1] == ["Bomberman", "Anno  2070", "Bomberman"]


def test_the_order_of_rows_changes_no_byte():
    assert made(CHOSEN.reverse()) == made()


def test_the_manifest_has_the_hash_of_every_other_file():
    found = made()
    manifest = json.loads(found.pop(emission.MANIFEST))
    assert manifest["files"] == {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}
    assert manifest["tables"] == {"samples": 4}
    assert manifest["chosen"] == 2


def test_the_content_hash_follows_the_samples_alone():
    other_scores = CHOSEN.with_columns(score=pl.lit(9.0))
    other_history = CHOSEN.with_columns(history=pl.Series([["b"], ["a"]]))
    assert emission.content_hash(other_scores) == emission.content_hash(CHOSEN) != emission.content_hash(other_history)


def test_every_file_that_llama_factory_is_told_of_is_there():
    found = made()
    assert {entry["file_name"] for entry in json.loads(found[emission.INFO]).values()} <= set(found)


def test_the_card_names_files_of_one_format_because_datasets_reads_a_folder_with_one_reader():
    card = made()[emission.CARD].decode().split("---")[1]
    named = [line.split(":")[1].strip() for line in card.splitlines() if "data_files" in line]
    assert named == [emission.CHAT, emission.ALPACA]
