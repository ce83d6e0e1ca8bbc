import ast
import re
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from dealrec_core.settings import Config, load
from dealrec_core.settings.influence import InfluenceConfig, of_method
from dealrec_core.settings.section import Section, leaves, section_of
from dealrec_core.settings.tree import Algorithms

DEMO = "deployments/examples/demo.toml"
FIRST = runpy.run_path("docs/settings.py")["FIRST"]
SETTINGS = dict(leaves(Config))


def texts() -> dict[Path, str]:
    """Tests, benchmarks and pages but the one that lists every setting; this file names none."""
    here = Path("tests/dealrec_core/settings/test_tree.py")
    places = [
        *Path("tests").rglob("*.py"),
        *Path("benchmarks").glob("*.py"),
        Path("README.md"),
        *Path("docs").rglob("*.md"),
    ]
    return {path: path.read_text("utf-8") for path in places if path not in (here, Path("docs/settings.md"))}


def keys(table: dict, prefix: str = "") -> Iterator[str]:
    for key, value in table.items():
        yield from keys(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]


def classes(tree: type[Section], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Pairs of a class's name and the name of the section that holds it."""
    for name, field in tree.model_fields.items():
        if inner := section_of(field):
            yield inner.__name__, f"{prefix}{name}"
            yield from classes(inner, f"{prefix}{name}.")


def words(source: str) -> set[str]:
    """`coreset.ratio` where a file names a class of that section and has ratio as an argument or a key."""
    nodes = list(ast.walk(ast.parse(source)))
    arguments = {node.arg for node in nodes if isinstance(node, ast.keyword)}
    arguments |= {
        key.value for node in nodes if isinstance(node, ast.Dict) for key in node.keys if isinstance(key, ast.Constant)
    }
    classes_named = {node.id for node in nodes if isinstance(node, ast.Name)}
    sections = {section for name, section in [*classes(Config), *classes(Algorithms)] if name in classes_named}
    return {f"{section}.{argument}" for section in sections for argument in arguments}


@pytest.fixture(scope="module")
def named() -> set[str]:
    shipped = [tomllib.loads(path.read_text("utf-8")) for path in Path("deployments").glob("*.toml")]
    shipped += [tomllib.loads(path.read_text("utf-8")) for path in Path("deployments/examples").glob("*.toml")]
    found = {key for table in shipped for key in keys(table)}
    for path, text in texts().items():
        found |= words(text) if path.suffix == ".py" else set()
        found |= {name for name in SETTINGS if re.search(rf"\b{re.escape(name)}\b", text)}
    return found


def test_a_night_has_at_most_131_settings_and_fifteen_of_them_on_the_first_page():
    assert len(SETTINGS) <= 131
    assert len(set(FIRST)) == len(FIRST) == 15
    assert set(FIRST) <= SETTINGS.keys()


def test_every_setting_has_a_user(named):
    assert sorted(SETTINGS.keys() - named) == []


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_says_in_full_sentences_what_it_controls(name):
    described = SETTINGS[name].description or ""
    assert re.match(r"[A-Z].{15,}\.$", described, re.DOTALL)
    assert not re.match(r"(Of|As|The same|Who|What|Wins|Above|After|Between)\b", described)


def test_one_history_length_holds_for_samples_surrogate_and_tiger():
    algorithms = load(DEMO, ["samples.history_length=7", "recommender.titles=3"]).algorithms
    assert (algorithms.surrogate.history_length, algorithms.tiger.history_length) == (7, 7)
    assert algorithms.bigrec.history_length == 3


def test_one_number_of_beams_holds_for_both_backends():
    algorithms = load(DEMO, ["recommender.beams=4"]).algorithms
    assert (algorithms.bigrec.beams, algorithms.tiger.beams) == (4, 4)


def test_a_night_gives_the_algorithms_what_it_sets_and_defaults_for_what_it_does_not():
    algorithms = load(DEMO, ["influence.damping=2", "fine_tune.lora.rank=4"]).algorithms
    assert (algorithms.influence.damping, algorithms.influence.curvature) == (2.0, "gauss_newton")
    assert (algorithms.fine_tune.lora.rank, algorithms.fine_tune.lora.dropout) == (4, None)


def test_the_settings_import_nothing_heavy():
    heavy = {"numpy", "polars", "torch", "transformers", "pydantic_settings"}
    program = f"import sys, dealrec_core.settings; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_influence_is_on_the_ranking_risk_for_the_method_that_needs_it():
    own = {
        method: load(DEMO, [f"coreset.method={method}"]).algorithms.influence.objective
        for method in ("targeted", "dealrec")
    }
    assert own == {"targeted": "ranking", "dealrec": "loss"}
    asked = InfluenceConfig(objective="loss")
    assert of_method(asked, "targeted") == asked
