"""Every command of every page: it exists with the options that the page gives it, and runs here or is listed with the reason why not."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LOOKS = ("doctor --sources", "plan", "status")
"""Commands that look at what there is. They run here."""
NIGHTS = {
    "doctor": "tests/flows/test_cli.py",
    "nightly": "tests/flows/test_nightly.py",
    "ingest": "tests/flows/test_cli.py",
    "retrain": "tests/flows/test_days.py",
    "score": "tests/flows/test_nightly.py",
    "select": "tests/flows/test_coreset_files.py",
    "fine-tune": "tests/flows/test_backends.py",
    "evaluate": "tests/flows/test_nightly.py",
    "promote": "tests/flows/test_approval.py",
    "report": "tests/flows/test_trials.py",
    "recommend": "tests/flows/test_cli.py",
    "trace": "tests/flows/test_walk.py",
    "rollback": "tests/flows/test_nightly.py",
    "register-champion": "tests/flows/test_nightly.py",
    "erase-user": "tests/flows/test_cli.py",
    "upkeep": "tests/flows/test_cli.py",
    "study": "tests/flows/test_study.py",
    "deploy": "tests/deployments/test_up.py",
    "init": "tests/flows/test_first_steps.py",
    "demo": "tests/deployments/test_examples.py",
    "get-model": "tests/flows/test_smollm2.py",
}
"""Commands that need a night, a server, a download or the seconds that torch takes to load, and the test that runs what they do."""
ELSEWHERE = {
    "curl": "needs the model server of the line above; tests/flows/test_serving.py sends the same request",
    "mlflow": "tests/flows/test_serving.py starts the model server, tests/deployments/test_up.py the registry",
    "docker": "needs a Docker engine; tests/deployments/test_compose.py checks the file and the image's recipe",
    "podman": "needs a root file system; see docs/decisions/operations.md for the run",
    "debootstrap": "needs a Debian mirror; see docs/decisions/operations.md for the run",
    "tar": "packs that root file system",
    "chroot": "enters that root file system",
    "kubectl": "needs a cluster; tests/deployments/test_kubernetes.py checks what it is given",
    "helm": "needs a cluster; tests/deployments/test_kubernetes.py checks what it is given",
    "ray": "needs a second machine; tests/flows/test_ray.py starts a cluster on this one",
    "git": "copies the repository",
    "pip": "installs; benchmarks/wheel.py does it with the wheel, make setup with the checkout",
    ".": "logs a shell in, or activates the environment",
}

PROGRAMS = "|".join(map(re.escape, ("dealrec", "make", "python", *ELSEWHERE)))


def commands(text: str) -> list[str]:
    """The command lines of a page's code blocks and of its inline code, without their comments."""
    text = re.sub(r"^```(?!\n|bash\n).*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    fenced = "\n".join(re.findall(r"^```(?:bash)?\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    indented = "\n".join(re.findall(r"^    (\S.*)$", text, re.MULTILINE))
    inline = re.findall(rf"`((?:{PROGRAMS}) [^`\n]+)`", text)
    lines = [*f"{fenced}\n{indented}".replace("\\\n", " ").splitlines(), *inline]
    found = [re.sub(r"\s+#.*$", "", line).strip() for line in lines if re.match(rf"(?:{PROGRAMS}) ", line)]
    parts = [part.strip() for line in found for part in ([line] if "'" in line else line.split(" && "))]
    return [part for part in parts if not part.startswith("cd ") and "…" not in part.split()[1:2]]


FOUND = sorted({command for page in PAGES for command in commands(page.read_text("utf-8"))})
OURS = [command for command in FOUND if command.startswith("dealrec ") and not command.startswith("dealrec --")]


def words(command: str) -> list[str]:
    """The arguments of a dealrec command; what a page puts in brackets is optional and counts as given."""
    return shlex.split(re.sub(r"[\[\]]", "", command) if "--set '" not in command else command)[1:]


def test_the_pages_have_commands_of_every_kind():
    assert len(OURS) >= 30
    assert {command.split()[0] for command in FOUND} == {"dealrec", "make", "python", *ELSEWHERE}


@pytest.mark.parametrize("command", OURS)
def test_a_dealrec_command_exists_with_its_options(command):
    done = CliRunner().invoke(app, [*words(command), "--help"])
    assert done.exit_code == 0, done.output


def test_the_options_of_dealrec_itself_exist():
    options = {command.split()[1] for command in FOUND if command.startswith("dealrec --")}
    assert options
    assert [option for option in options if option not in CliRunner().invoke(app, ["--help"]).output] == []


def test_every_dealrec_command_runs_here_or_is_listed_with_the_test_that_runs_it():
    names = {words(command)[0] for command in OURS}
    assert names <= {*LOOKS, *NIGHTS}
    assert set(LOOKS) <= {" ".join(words(command)) for command in OURS}
    assert [test for test in NIGHTS.values() if not (ROOT / test).is_file()] == []


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    rows = [f"u{user},i{item},{1_700_000_000 + 86_400 * item + user}" for user in range(5) for item in range(4)]
    (folder / "log.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n", encoding="utf-8")
    settings = '[sources]\nroot = "."\n[sources.interactions]\nfiles = ["log.csv"]\n[lake]\nroot = "lake"\n'
    (folder / "pipeline.toml").write_text(settings, encoding="utf-8")
    return folder


@pytest.mark.parametrize("command", LOOKS)
def test_a_command_that_looks_runs_on_a_fresh_log(command, shop, monkeypatch):
    monkeypatch.chdir(shop)
    done = CliRunner().invoke(app, [*command.split(), "--config", "pipeline.toml"])
    assert done.exit_code == 0, done.output


def test_every_script_and_every_make_target_of_the_pages_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for command in FOUND:
        program, first, *_ = command.split()
        if program == "make":
            assert first in targets, command
        if program == "python" and not first.startswith("-"):
            assert (ROOT / first).is_file(), command
