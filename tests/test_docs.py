import ast
import re
import runpy
from pathlib import Path

import polars as pl
import pytest
from pydantic import BaseModel

from dealrec_core import coreset, influence, schema
from dealrec_core.language import effort
from dealrec_core.settings import Config, read
from dealrec_core.settings.section import section_of
from dealrec_core.study.config import StudyConfig, cells
from dealrec_core.study.fidelity import FidelityConfig
from tasks.stages.coreset import EMITTED

LIBRARY = (coreset, influence, effort)
DOCS = sorted(Path("docs").glob("*.md"))

PUZZLES = (
    "prepares its steps on so many train samples",
    "Of the validation slice, what",
    "never seen the future of",
    "what is to be taken, what is wrong",
    "almost nothing or very much arrived",
    "only new samples are scored",
    "by hand is taken over",
    "stands once, starts from last night's weights, and is the epoch",
    "A night of day D",
    "what the estimators said of it another",
    "of resamples, wanted",
    "Brings a load into the lake",
    "Takes in what was read elsewhere",
    "every note is booked",
    "drowns in chance",
)
"""Sentences of two reviews that nobody understood, or that are not true; none may come back."""
NO_SUBJECT = re.compile(r"(?:^|[.!?] |\| |- )(?:Of|As|The same) \S+", re.MULTILINE)
"""The beginning of a sentence or cell in which another word stands in the place of the subject."""


def settings_named_in(text: str) -> set[str]:
    """Words such as `coreset.ratio` in backquotes whose first part is a section; functions of the library are none."""
    words = re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)", text)
    others = {EMITTED} | {f"{room.__name__.split('.')[-1]}.{name}" for room in LIBRARY for name in vars(room)}
    return {
        word for word in words if word.split(".")[0] in Config.model_fields and not word.endswith((".py", ".json"))
    } - others


def exists(setting: str) -> bool:
    """Whether a night or a study has it."""
    return any(_exists(setting, tree) for tree in (Config, StudyConfig))


def _exists(setting: str, section: type[BaseModel] | None) -> bool:
    for part in setting.split("."):
        field = section.model_fields.get(part) if section is not None else None
        if field is None:
            return False
        section = section_of(field)
    return True


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_every_setting_that_a_page_names_exists(page):
    assert {setting for setting in settings_named_in(page.read_text("utf-8")) if not exists(setting)} == set()


def test_no_page_and_no_message_has_a_sentence_of_the_newcomers_list():
    sources = [
        path for folder in ("docs", "dealrec_core", "tasks", "flows") for path in Path(folder).rglob("*.[mp][dy]")
    ]
    texts = {
        path: " ".join(path.read_text("utf-8").split())
        for path in [*sources, Path("README.md"), Path("CONTRIBUTING.md")]
    }
    assert len(texts) > 200
    assert [(str(path), puzzle) for path, text in texts.items() for puzzle in PUZZLES if puzzle in text] == []


def test_no_sentence_of_a_page_or_docstring_begins_with_of_as_or_the_same():
    pages = {path: path.read_text("utf-8") for path in [*Path("docs").rglob("*.md"), Path("README.md")]}
    modules = [path for folder in ("dealrec_core", "tasks", "flows") for path in Path(folder).rglob("*.py")]
    texts = pages | {path: docstrings(path) for path in modules}
    found = [
        (str(path), words)
        for path, text in texts.items()
        for words in NO_SUBJECT.findall(re.sub(r"(?<!\n)\n(?!\n)", " ", text))
    ]
    assert found == []


def docstrings(path: Path) -> str:
    """Every text of a module that stands alone: docstrings, also those of fields."""
    alone = (node.value for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Expr))
    return "\n\n".join(node.value for node in alone if isinstance(node, ast.Constant) and isinstance(node.value, str))


def test_a_setting_that_does_not_exist_is_found():
    named = settings_named_in("set `coreset.ratio` and `coreset.ratoi`, see `coreset.py`")
    assert {setting: exists(setting) for setting in named} == {"coreset.ratio": True, "coreset.ratoi": False}


def test_the_lake_page_lists_every_table_with_its_columns():
    rows = re.findall(r"^\| `([a-z]+)` \|[^|]*\| ([^|]*) \|", Path("docs/lake.md").read_text("utf-8"), re.MULTILINE)
    columns = {table: re.sub(r" \([^)]*\)", "", cells).split(", ") for table, cells in rows}
    schemas = {name.lower(): found for name, found in vars(schema).items() if isinstance(found, pl.Schema)}
    schemas["samples"] = schemas.pop("sample_table")
    assert columns == {table: found.names() for table, found in schemas.items()}


def test_the_settings_page_is_up_to_date():
    written = Path("docs/settings.md").read_text("utf-8")
    assert runpy.run_path("docs/settings.py")["page"]() == written, "run python docs/settings.py and commit the page"


def test_the_tables_of_forms_are_up_to_date():
    written = Path("docs/lake.md").read_text("utf-8")
    assert runpy.run_path("docs/forms.py")["page"]() == written, "run python docs/forms.py and commit the page"


def test_the_commands_of_the_study_page_are_ones_that_the_settings_know():
    found, study = [], "deployments/studies/rq1.toml"
    for line in Path("docs/study.md").read_text("utf-8").splitlines():
        if not line.startswith("    dealrec study"):
            continue
        study = next(iter(re.findall(r"--config (\S+\.toml)", line)), study)
        overrides = re.findall(r"--set '?([a-z_.]+=[^'\n]*?)'?(?= \\|\s+--|\s+#|$)", line)
        if "study fidelity" in line:
            found.append(read(FidelityConfig, "deployments/studies/fidelity-games.toml", overrides))
        else:
            found.append(cells(read(StudyConfig, study, overrides)))
    assert len(found) >= 8
    assert all(found)


def test_the_tables_of_the_study_page_are_those_that_the_command_wrote():
    written = Path("docs/study.md").read_text("utf-8")
    assert runpy.run_path("docs/study.py")["page"](written) == written, "run python docs/study.py and commit the page"
