"""Tells how the fields of a CSV file are cut and quoted from its first lines."""

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass

AUTO = "auto"
DELIMITERS = [",", "\t", ";", "|", "::", "\x01"]
"""Delimiters that are told from the header; \\x01 is Hive's."""
SAMPLE_LINES = 20_000
"""Most lines with quotes that are looked at."""
TYPED_NAME = re.compile(r"^(.+):(token|float|token_seq|float_seq)$")
"""A name in RecBole's headers."""
ESCAPED = {b"\\\\": b"\x1e", b'\\"': b"\x1d"}
"""An escaped letter becomes one of these bytes until its line is cut into fields; a clean line never holds them."""
LETTERS = {"\x1e": "\\", "\x1d": '"'}


@dataclass(frozen=True)
class Quoting:
    """The letter around fields ('' where quotes are letters like others), and what stands for it inside them."""

    quote: str = '"'
    has_backslashes: bool = False
    is_trusted: bool = True
    """Whether a quoted field may hold line ends although each of its lines looks like a whole record."""
    is_padded: bool = False
    """Whether blanks stand between a delimiter and a quote."""

    def __str__(self) -> str:
        if not self.quote:
            return "quotes are letters"
        return f"fields in {self.quote}" + (" with backslashes before quotes" if self.has_backslashes else "")


def delimiter_of(line: str, header: list[str] | None) -> str:
    """Returns the delimiter of a header line, or of the first line where the names come from the settings."""
    if header is not None:
        fitting = [mark for mark in DELIMITERS if line.count(mark) == len(header) - 1 and line.count(mark)]
        return max(fitting, key=len, default=",")
    return max(DELIMITERS, key=lambda mark: (line.count(mark), len(mark)))


def named(line: str) -> str | None:
    """Returns the delimiter that Excel's first line `sep=;` names, else None."""
    found = re.fullmatch(r'"?sep=(.+?)"?', line.strip("\r"), re.IGNORECASE)
    return found[1] if found else None


def without_types(names: list[str], wanted: list[str]) -> tuple[list[str], frozenset[str]]:
    """Returns names such as user_id:token without their types, unless the settings name them with these, and those of lists."""
    found = [TYPED_NAME.match(name) for name in names]
    if not all(found):
        return names, frozenset()
    types = [match[2] for match in found if match]
    plain = [name if name in wanted else match[1] for name, match in zip(names, found, strict=True) if match]
    return plain, frozenset(name for name, kind in zip(plain, types, strict=True) if kind.endswith("_seq"))


def quoting(content: bytes, *, mark: str, width: int, quote: str, escape: str) -> Quoting:
    """Returns how fields are quoted: as the settings say, or (AUTO) as most lines with quotes can be read.

    Quotes are letters where no line needs them to be whole and more lines have stray quotes than whole quoted fields. Blanks before
    them, and single quotes, are told where every line says so.
    """
    if quote == "none":
        return Quoting("", escape == "backslash")
    if quote != AUTO:
        return Quoting(quote, escape == "backslash")
    lines = [line for line in content.split(b"\n") if b'"' in line][:SAMPLE_LINES]
    if not lines:
        return _single(content, mark, width)
    plain = _Evidence.of(lines, mark, width)
    if plain.stray + plain.open and any(f'{mark} "'.encode() in line for line in lines):
        padded = _Evidence.of([without_padding(line, mark) for line in lines], mark, width)
        if not padded.stray + padded.open:
            return Quoting('"', False, padded.needed > 0, is_padded=True)
    has_backslashes = escape == "backslash"
    if escape == AUTO and any(b'\\"' in line for line in lines):
        escaped = _Evidence.of([escape_bytes(line) for line in lines], mark, width)
        has_backslashes = escaped.faults < plain.faults
        plain = escaped if has_backslashes else plain
    return Quoting("", False) if plain.says_letters(mark) else Quoting('"', has_backslashes, plain.needed > 0)


def _single(content: bytes, mark: str, width: int) -> Quoting:
    """Single quotes where every one of the first lines has a field in them, and is a whole record."""
    lines = [line for line in content.split(b"\n", SAMPLE_LINES)[:SAMPLE_LINES] if line.strip()]
    whole = _Evidence.of(lines, mark, width, "'")
    return Quoting("'") if whole.proper + whole.needed == len(lines) > 0 else Quoting()


def without_padding(content: bytes, mark: str) -> bytes:
    """Returns lines without the blanks between a delimiter and a quote."""
    return re.sub(rb"(?m)(^|%s) +\"" % re.escape(mark.encode()), rb'\1"', content)


def escape_bytes(content: bytes) -> bytes:
    """Returns lines with a letter of their own for each backslash pair."""
    for pair, letter in ESCAPED.items():
        content = content.replace(pair, letter)
    return content


@dataclass(frozen=True)
class _Evidence:
    """How many lines with quotes are what, where quotes enclose fields."""

    needed: int
    """Whole records only because quotes protect a delimiter."""
    proper: int
    """Whole records with fields in quotes, which would have as many fields without."""
    stray: int
    """Whole records if quotes are letters, with a quote that is not closed, or in the middle of a field."""
    broken: int
    """Strays that are no whole record when quotes are taken to enclose fields."""
    open: int
    """Whole records in neither way; perhaps part of one."""

    @property
    def faults(self) -> int:
        return self.broken + self.open

    def says_letters(self, mark: str) -> bool:
        if self.needed + self.open:
            return self.needed + self.open < self.broken
        return self.stray > self.proper or (mark == "\t" and self.stray == self.proper > 0)

    @classmethod
    def of(cls, lines: list[bytes], mark: str, width: int, quote: str = '"') -> "_Evidence":
        kinds: Counter[str] = Counter(kind for line in lines for kind in _kinds(line, mark, width, quote))
        return cls(**{name: kinds[name] for name in ("needed", "proper", "stray", "broken", "open")})


def _kinds(line: bytes, mark: str, width: int, quote: str) -> list[str]:
    text = line.decode(errors="replace")
    plain = text.split(mark)
    fits = len(plain) == width
    try:
        fields = next(csv.reader(io.StringIO(text, newline=""), delimiter=mark, quotechar=quote, strict=True), [])
    except csv.Error:
        return ["stray", "broken"] if fits else ["open"]
    if len(fields) != width:
        return ["stray", "broken"] if fits else ["open"]
    if not fits:
        return ["needed"]
    return ["stray"] if fields == plain else ["proper"]
