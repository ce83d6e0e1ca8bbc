"""Titles and ids that mean harm: inert on the terminal, on pages, in the log and in what an outside trainer takes."""

import json
import random
import sys
from datetime import date

import polars as pl
import pytest
from markdown_it import MarkdownIt
from tokenizers import AddedToken, Tokenizer, models

from dealrec_core.coreset import emission
from dealrec_core.errors import DataError, plain
from dealrec_core.ingest import interactions, item_files
from dealrec_core.lake import Lake
from dealrec_core.language.prompts import clean, separator
from dealrec_core.samples import sample_table
from dealrec_core.samples.items import Catalogue, catalogue
from dealrec_core.settings.language import PromptConfig
from dealrec_core.settings.sources import InteractionSource, ItemSource, SourcesConfig
from flows import cli
from tasks.report import Section, markdown
from tasks.report.page import html
from tasks.report.parts import Bar, Bars, Table
from tests.hostile import CONTROL_TOKENS, IDS, TITLES, Tags

TEXTS = [*TITLES, *IDS]
SETTINGS = """
[sources]
root = '{folder}/raw'
max_bad_fraction = 1
[sources.interactions]
files = ['log*']
[sources.items]
files = ['items*']
title = 'title'
[lake]
root = '{folder}/lake'
[run]
home = '{folder}'
[registry]
tracking_uri = 'sqlite:///{folder}/mlflow.db'
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> str:
    """Settings of a lake with every hostile title and id: each user took five of them."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "raw").mkdir()
    titled = {f"i{number:02}": title for number, title in enumerate(TITLES)}
    item_ids = [*titled, *IDS]
    random.Random(0).shuffle(item_ids)
    events = [
        {"user_id": f"{IDS[number % len(IDS)]}{number // 5}", "item_id": item, "timestamp": 1767225600 + number}
        for number, item in enumerate(item_ids)
    ]
    events = [{**event, "user_id": events[number // 5]["user_id"]} for number, event in enumerate(events)]
    bad = [{"user_id": "u", "item_id": item, "timestamp": text} for item, text in zip(IDS, TEXTS[:20], strict=True)]
    items = [{"item_id": item, "title": title} for item, title in titled.items()]
    for name, rows in {"log.jsonl": [*events, *bad], "items.jsonl": items}.items():
        (folder / "raw" / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "pipeline.toml").write_text(SETTINGS.format(folder=folder))
    config = SourcesConfig(
        root=f"{folder}/raw",
        interactions=InteractionSource(files=["log*"]),
        items=ItemSource(files=["items*"]),
        max_bad_fraction=1,
    )
    lake = Lake(f"{folder}/lake")
    assert interactions.ingest(lake, config, through=date(2026, 1, 9), partition="day").inserted == len(events)
    item_files.ingest_items(lake, config)
    sample_table.update(lake, log_version=lake.version("interactions"), length=5)
    return str(folder)


@pytest.fixture(scope="module")
def games(place) -> Catalogue:
    lake = Lake(f"{place}/lake")
    return catalogue(lake.scan("items").collect(), lake.scan("interactions").collect())


def run(capsys, monkeypatch, place: str, *arguments: str) -> str:
    """What a command prints, which must be lines of printable letters and end in no traceback."""
    monkeypatch.setattr(sys, "argv", ["dealrec", *arguments, "--config", f"{place}/pipeline.toml"])
    with pytest.raises(SystemExit):
        cli.main()
    captured = capsys.readouterr()
    printed = captured.out + captured.err
    assert "Traceback" not in printed
    assert [line for line in printed.split("\n") if not line.isprintable()] == []
    return printed


def test_the_list_holds_what_the_attack_held(place, games):
    assert len(set(TITLES)) >= 54
    assert len(set(IDS)) >= 20
    assert set(IDS) <= set(games.item_ids)  # none is lost or changed on its way into the lake
    assert {title.strip() for title in TITLES} <= {title.strip() for title in games.titles} | {""}


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_every_command_prints_hostile_rows_to_the_letter(capsys, monkeypatch, place, form):
    printed = run(capsys, monkeypatch, place, "doctor", "--sources", *form)
    assert "[/]" in printed
    run(capsys, monkeypatch, place, "status", *form)
    run(capsys, monkeypatch, place, "plan", *form)


def test_trace_prints_the_titles_of_a_history_to_the_letter(capsys, monkeypatch, place):
    samples = Lake(f"{place}/lake").scan("samples").sort(pl.col("history").list.len()).collect()["sample_id"]
    printed = "".join(run(capsys, monkeypatch, place, "trace", sample) for sample in samples[-15:])
    assert "[/]" in printed
    assert "\\x1b" in printed


def test_an_error_that_names_a_value_is_one_inert_line():
    for text in TEXTS:
        assert str(DataError(f"no item '{text}'")).isprintable()


def hostile_section(text: str) -> Section:
    return Section(text, text, [Table(["", text], [[text, text]])], [Bars(text, [Bar(text, 1.0)])])


@pytest.mark.parametrize("text", TEXTS)
def test_a_page_and_an_artifact_show_a_text_to_the_letter(text):
    shown = hostile_section(text)
    page, artifact = Tags(), Tags()
    page.feed(html(shown))
    drawn = {"section", "h2", "p", "div", "table", "thead", "tbody", "tr", "th", "td", "details", "summary"}
    drawn |= {"figure", "figcaption", "svg", "defs", "clippath", "g", "text", "rect", "path"}
    assert page.tags <= drawn
    artifact.feed(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown(shown)))
    assert artifact.tags <= {"h2", "p", "table", "thead", "tbody", "tr", "th", "td", "strong"}
    for tags in (page, artifact):
        assert plain(text).strip() in tags.text
        assert [line for line in tags.text.split("\n") if not line.isprintable()] == []


def test_an_outside_trainer_finds_titles_and_nothing_else_in_emitted_files(place, games):
    lake, prompt = Lake(f"{place}/lake"), PromptConfig()
    samples = lake.scan("samples").collect()
    scores = pl.DataFrame({"sample_id": samples["sample_id"], "score": 1.0, "influence": 1.0, "effort": 1.0})
    chosen = samples.join(scores, on="sample_id").with_columns(group=pl.lit(1, pl.Int32), reason=pl.lit("all"))
    files = emission.files(chosen, games, prompt=prompt, history_length=5, facts={"night": "n"})
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in CONTROL_TOKENS])
    lines = [json.loads(line) for line in files[emission.ALPACA].decode().splitlines()]
    assert len(lines) == samples.height
    longest = {row["sample_id"]: len(row["history"]) for row in samples.sort("sample_id").to_dicts()}
    for line, length in zip(lines, longest.values(), strict=True):
        assert line["input"].count(separator(prompt)) == length - 1
        assert set(tokenizer.encode(line["input"] + line["output"]).ids) == {0}
        assert all(text.isprintable() for text in line.values())
    for name in (emission.CHAT, emission.ALPACA, emission.CARD, emission.MANIFEST):
        assert not [token for token in CONTROL_TOKENS if token in files[name].decode()]


def test_a_title_keeps_its_words():
    prompt = PromptConfig()
    for ordinary in ("Steins;Gate", "Pokémon [PC]", "C# in 24 hours", "I < 3", "می‌خواهم", "👨‍👩‍👧", "Tom & Jerry"):
        assert clean(ordinary, prompt) == ordinary
    assert clean("Orcs &amp; Humans; the rest;", prompt) == "Orcs & Humans, the rest"
