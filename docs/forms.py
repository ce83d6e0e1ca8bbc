"""Writes the tables of forms in lake.md from the tests that read them: python docs/forms.py."""

import re
import sys
from functools import partial
from itertools import zip_longest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.dealrec_core.ingest import test_forms, test_times

PAGE = Path(__file__).with_name("lake.md")
SETTINGS = {"format": "format", "encoding": "encoding", "delimiter": "delimiter", "quotes": "quote"}
"""The setting of sources.interactions for each kind of form."""


def _filled(table: str, found: re.Match[str]) -> str:
    return found[1] + table + found[2]


def page() -> str:
    """Returns the page with its tables as the tests say."""
    text = PAGE.read_text("utf-8")
    for name, table in (("forms", _forms()), ("times", _times())):
        text = re.sub(
            rf"(<!-- {name} -->\n\n).*?(\n\n<!-- end -->)",
            partial(_filled, table),
            text,
            flags=re.S,
        )
    return text


def _forms() -> str:
    rows = ["| what | forms that are read | setting |", "|---|---|---|"]
    for kind, forms in test_forms.FORMS.items():
        setting = f"`sources.interactions.{SETTINGS[kind]}`" if kind in SETTINGS else ""
        rows.append(f"| {kind} | {'; '.join(forms)} | {setting} |")
    return "\n".join(rows)


def _times() -> str:
    cells = [f"| `{text}` | {moment:%Y-%m-%d %H:%M:%S.%f}" for text, moment in test_times.READ.items()]
    cells = [cell.removesuffix(".000000") for cell in cells]
    half = (len(cells) + 1) // 2
    rows = [" ".join(pair) + " |" for pair in zip_longest(cells[:half], cells[half:], fillvalue="| |")]
    return "\n".join(["| written | read as | written | read as |", "|---|---|---|---|", *rows])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
