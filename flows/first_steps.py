"""`dealrec init`: looks at a person's files, asks what it cannot tell, and writes a settings file that works."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import typer

from dealrec_core import settings
from dealrec_core.errors import SettingsError
from dealrec_core.ingest import guess, preview
from dealrec_core.ingest.guess import Guess

QUESTIONS = {
    "user_id": ("--user", "Which column holds the user?"),
    "item_id": ("--item", "Which column holds the item?"),
    "timestamp": ("--time", "Which column holds the time?"),
}
"""The option and the question of each role that must have a column."""


@dataclass(frozen=True)
class Answers:
    """The answers that the person gave as options. `init` finds or asks what is None."""

    user: str | None = None
    item: str | None = None
    time: str | None = None
    title: str | None = None
    interactions: str | None = None
    items: str | None = None

    @property
    def roles(self) -> dict[str, str]:
        """The columns of the interactions that were named."""
        given = {"user_id": self.user, "item_id": self.item, "timestamp": self.time}
        return {role: name for role, name in given.items() if name}


@dataclass(frozen=True)
class Begun:
    """The settings file that was written, and what a look at the files with it has shown."""

    file: str
    interactions: str
    columns: dict[str, str]
    items: str | None
    item_columns: dict[str, str]
    rows_looked_at: int
    rows_bad: int
    warnings: list[str]
    problems: list[str]

    def lines(self) -> list[str]:
        """The result as a person reads it, with the next command."""
        told = [f"interactions: {self.interactions}: {_mapping(self.columns)}"]
        told.append(
            f"items: {self.items}: {_mapping(self.item_columns)}"
            if self.items
            else "items: no file with titles was found"
        )
        told.append(f"{self.rows_bad:,} of the first {self.rows_looked_at:,} rows are bad")
        told += [f"warning: {text}" for text in self.warnings] + [
            f"a night would stop: {text}" for text in self.problems
        ]
        option = "" if self.file == "pipeline.toml" else f" --config {self.file}"
        told.append(f"wrote {self.file}; you may change every line in it")
        return [*told, f"next: dealrec {'doctor --sources' if self.problems else 'nightly'}{option}"]


def init(folder: str, answers: Answers, *, to: Path, force: bool) -> Begun:
    """Writes the settings file for the files in a folder or bucket.

    Raises:
        SettingsError: the file is there, or a column is not clear and no person can be asked.
        SourceError: the folder is missing or holds no interactions.
    """
    if to.exists() and not force:
        raise SettingsError(f"'{to}' exists already; edit it, name another file with --to, or replace it with --force")
    found = guess.guess(folder, interactions=answers.interactions, items=answers.items)
    for role, name in answers.roles.items():
        _require_column(name, found.interactions.frame.columns, QUESTIONS[role][0])
        found.columns[role] = name
    for role in QUESTIONS:
        if role not in found.columns:
            found.columns[role] = _asked(role, found.choices[role])
    if answers.title and found.items:
        _require_column(answers.title, found.items.frame.columns, "--title")
        found.item_columns["title"] = answers.title
    to.write_text(text(folder, found), encoding="utf-8")
    looked = preview.look(settings.load(to).sources)
    return Begun(
        file=str(to),
        interactions=found.interactions.pattern,
        columns={role: found.columns[role] for role in QUESTIONS},
        items=found.items.pattern if found.items else None,
        item_columns=found.item_columns,
        rows_looked_at=sum(shown.records for shown in looked.interactions),
        rows_bad=sum(shown.quarantined for shown in looked.interactions),
        warnings=looked.warnings,
        problems=looked.problems,
    )


def text(folder: str, found: Guess) -> str:
    """The settings file, with a comment beside every line."""
    columns = found.columns
    lines = [
        "# Written by `dealrec init`. docs/settings.md lists every setting; --set section.key=value wins over this file.",
        "",
        "[sources]",
        _line("root", folder, "a folder, or s3://bucket/prefix"),
        "",
        "[sources.interactions]",
        _line("files", [found.interactions.pattern], "later files must match this pattern, too"),
        *[_line(role, columns[role], note) for role, note in NOTES.items()],
    ]
    if "rating" in columns:
        lines.append(f'# rating = {json.dumps(columns["rating"])}   # with it: filter = "rating >= 4"')
    if "event_type" in columns:
        kinds = found.interactions.frame[columns["event_type"]].unique().drop_nulls().sort().head(4).to_list()
        lines.append(
            f"# event_type = {json.dumps(columns['event_type'])}   # {', '.join(kinds)}; without this line all types count"
        )
    if found.items is not None:
        lines += [
            "",
            "[sources.items]",
            _line("files", [found.items.pattern], "titles, and categories"),
        ]
        lines += [_line(role, name, "") for role, name in found.item_columns.items()]
        group = found.item_columns.get("categories")
        if group and (sign := guess.separator_of(found.items.frame[group])):
            lines.append(_line("categories_separator", sign, "between the categories of one item"))
    return "\n".join([*lines, REST])


NOTES = {
    "user_id": "column of the user",
    "item_id": "column of the item",
    "timestamp": "column of the time, in any of the forms that docs/lake.md lists",
}
REST = """
[lake]
root = "var/lake"                        # the tables, models and reports of all nights

[recommender.prompt]                     # words of the prompt; choose those of your domain
items = "products"
item = "product"
chosen = "purchased"

[language_model]
base_model = "embedded"                  # a small model, made from your titles; docs/recommenders.md names larger ones

[registry]
tracking_uri = "sqlite:///var/mlflow.db"
"""


def _line(key: str, value: str | list[str], note: str) -> str:
    written = f"{key} = {json.dumps(value, ensure_ascii=False)}"
    return f"{written:<40} # {note}" if note else written


def _mapping(columns: dict[str, str]) -> str:
    return ", ".join(f"{role} from '{name}'" for role, name in columns.items())


def _asked(role: str, candidates: list[str]) -> str:
    option, question = QUESTIONS[role]
    if not sys.stdin.isatty():
        raise SettingsError(f"{question} It may be {', '.join(candidates)}; name it with {option}")
    answer: str = typer.prompt(f"{question} ({', '.join(candidates)})", err=True)
    _require_column(answer, candidates, option)
    return answer


def _require_column(name: str, columns: list[str], option: str) -> None:
    if name not in columns:
        raise SettingsError(f"{option} {name}: there is no such column; the columns are {', '.join(columns)}")
