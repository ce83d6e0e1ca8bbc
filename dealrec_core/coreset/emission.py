"""A coreset as files for any tuning program: Parquet, two JSONL dialects, a manifest and a dataset card.

The bytes follow from rows and facts alone, not from time or place.

coreset.parquet     every chosen sample with ids, titles, score, group and reason
alpaca.jsonl        instruction, input, output             LLaMA-Factory, axolotl (type: alpaca), TRL after renaming
chat.jsonl          messages: user, assistant              TRL, axolotl (type: chat_template), LLaMA-Factory (sharegpt)
dataset_info.json   description for LLaMA-Factory          --dataset_dir this folder, --dataset coreset_alpaca
README.md           dataset card, also load_dataset(folder, "chat")
manifest.json       origin of the coreset, and the sha256 of each file
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from dealrec_core import schema
from dealrec_core.language.prompts import clean, separator, words
from dealrec_core.samples.items import Catalogue
from dealrec_core.settings.language import PromptConfig

PARQUET, ALPACA, CHAT = "coreset.parquet", "alpaca.jsonl", "chat.jsonl"
INFO, CARD, MANIFEST = "dataset_info.json", "README.md", "manifest.json"
DATASET_INFO = {
    "coreset_alpaca": {
        "file_name": ALPACA,
        "columns": {"prompt": "instruction", "query": "input", "response": "output"},
    },
    "coreset_chat": {
        "file_name": CHAT,
        "formatting": "sharegpt",
        "columns": {"messages": "messages"},
        "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
    },
}


def files(
    chosen: pl.DataFrame, catalogue: Catalogue, *, prompt: PromptConfig, history_length: int, facts: Mapping[str, Any]
) -> dict[str, bytes]:
    """The content of every file, by name; line n of a JSONL file is row n of the Parquet file.

    chosen: SAMPLES and CORESETS columns of the chosen samples, in any order. history_length: titles in a prompt, the
    newest. facts: further entries of the manifest and the card, beside counts and hashes; must be JSON.
    """
    rows = _titled(chosen.sort(schema.SAMPLE_ID), catalogue)
    texts = _texts(rows, prompt=prompt, history_length=history_length)
    chats = [
        [
            {"role": "user", "content": f"{task}\n\n{given}" if task else given},
            {"role": "assistant", "content": answer},
        ]
        for task, given, answer in texts
    ]
    table = io.BytesIO()
    rows.write_parquet(table, compression="zstd", statistics=False)
    contents = {
        PARQUET: table.getvalue(),
        ALPACA: _lines([{"instruction": task, "input": given, "output": answer} for task, given, answer in texts]),
        CHAT: _lines([{"messages": messages} for messages in chats]),
        INFO: _json(DATASET_INFO),
    }
    entries = {**facts, "chosen": len(rows), "content": content_hash(rows)}
    contents[CARD] = _card(entries).encode()
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(contents.items())}
    contents[MANIFEST] = _json({**entries, "files": hashes})
    return contents


def content_hash(chosen: pl.DataFrame) -> str:
    """sha256 over ids, histories and targets in order of sample_id, whatever the files look like."""
    digest = hashlib.sha256()
    rows = chosen.sort(schema.SAMPLE_ID).select(schema.SAMPLE_ID, schema.HISTORY, schema.ITEM_ID)
    for row in rows.iter_rows():
        digest.update(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def _titled(chosen: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    title_of = catalogue.title_of
    histories = [[title_of[item] for item in items] for items in chosen[schema.HISTORY].to_list()]
    scores = [schema.SCORE, schema.INFLUENCE, schema.EFFORT, schema.GROUP, schema.REASON]
    return chosen.select(*schema.SAMPLES, *scores).with_columns(
        pl.Series("history_titles", histories, dtype=pl.List(pl.String)),
        pl.Series(schema.TITLE, [title_of[item] for item in chosen[schema.ITEM_ID]], dtype=pl.String),
    )


def _texts(rows: pl.DataFrame, *, prompt: PromptConfig, history_length: int) -> list[tuple[str, str, str]]:
    """Instruction, input and output of each row: the text of the tuned model before its bound on tokens."""
    task, given = words(prompt)
    return [
        (
            task,
            given + separator(prompt).join(clean(title, prompt) for title in titles[-history_length:]),
            clean(target, prompt),
        )
        for titles, target in rows.select("history_titles", schema.TITLE).iter_rows()
    ]


def _lines(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _card(facts: Mapping[str, Any]) -> str:
    rows = [f"| {name} | {value} |" for name, value in facts.items() if not isinstance(value, Mapping)]
    return f"""---
configs:
- config_name: chat
  data_files: {CHAT}
  default: true
- config_name: alpaca
  data_files: {ALPACA}
task_categories:
- text-generation
tags:
- recommendation
- coreset
---
# Coreset of night {facts.get("night", "?")}

{facts["chosen"]} interaction samples chosen for fine-tuning a language model as a recommender. A sample is the titles a
user took before and the title taken next. The rows come from a log of people: a user who asks to be forgotten must be
removed here too (`user_id` in {PARQUET}).

| | |
|---|---|
{chr(10).join(rows)}

Settings, table versions and model fingerprints are in {MANIFEST}, with the sha256 of every file.

- LLaMA-Factory: `dataset_dir` this folder, `dataset: coreset_alpaca` (or `coreset_chat`).
- axolotl: `datasets: [{{path: {ALPACA}, ds_type: json, type: alpaca}}]`, or `{{path: {CHAT}, ds_type: json, type: chat_template}}`.
- TRL: `load_dataset("json", data_files="{CHAT}")` goes into `SFTTrainer` as it is.
- ids, scores, groups and reasons: `load_dataset("parquet", data_files="{PARQUET}")`.
"""
