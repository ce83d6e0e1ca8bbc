"""Reads CSV of any delimiter: blocks of clean lines by polars, every other line by one strict parser."""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from functools import cached_property

import polars as pl

from dealrec_core.ingest.raw import dialect
from dealrec_core.ingest.raw.batch import FAULT, ROW, Batch, check_columns, numbered
from dealrec_core.ingest.raw.blocks import Block
from dealrec_core.ingest.raw.dialect import Quoting

JOINED_LINES, JOINED_BYTES = 100, 2**16
"""Longest quoted field, in lines and bytes: a quote that is never closed costs one line, not the rest of the file."""
BLANKS = (b" ", b"\t", b"\v", b"\f")
NOT_A_LETTER = "\x1f"
"""Stands for a delimiter of more than one letter, such as MovieLens' '::'."""
NAMES = {"\t": "tabs", ",": "commas", ";": "semicolons", "\x01": "Hive's ^A"}
ADVICE = "set quote or escape in [sources] if quotes are letters here"


@dataclass(frozen=True)
class Layout:
    """How the lines of one file are cut into fields."""

    delimiter: str
    names: list[str]
    needed: int
    """Fields that a record must have: nameless columns at the end do not count."""
    quoting: Quoting = dataclass_field(default_factory=Quoting)
    encoding: str = "utf-8"
    """For messages: the text itself is UTF-8."""
    lists: frozenset[str] = frozenset()
    """Columns of lists, as the header says."""

    def has_quote(self, content: bytes) -> bool:
        """Whether the letter that encloses fields occurs."""
        return bool(self.quoting.quote) and self.quoting.quote.encode() in content

    def parsed(self, text: str) -> list[list[str]]:
        """The records of a text.

        Raises:
            csv.Error: the text is not CSV of this layout.
        """
        if not self.quoting.quote:
            return [line.split(self.mark) for line in text.split("\n")]
        return list(
            csv.reader(io.StringIO(text, newline=""), delimiter=self.mark, strict=True, quotechar=self.quoting.quote)
        )

    def __str__(self) -> str:
        delimiter = NAMES.get(self.delimiter, f"'{self.delimiter}'")
        return f"{self.encoding}, {delimiter} between fields, {self.quoting}"

    @property
    def mark(self) -> str:
        """The delimiter as one letter."""
        return _mark(self.delimiter)


def batches(
    blocks: Iterable[Block],
    *,
    path: str,
    columns: list[str] | None,
    delimiter: str | None,
    header: list[str] | None,
    quote: str = '"',
    escape: str = "doubled",
) -> Iterator[Batch]:
    """Yields the records of a CSV file as text.

    columns: the raw columns to read (all when None). delimiter: guessed from the header when None.
    header: the names of the columns, where the file has no header line.
    quote: the letter around fields, "none", or "auto" to tell it from the first block with quotes.
    escape: what stands for a quote inside quotes: "doubled", "backslash" or "auto".

    Raises:
        ColumnMissing: the header lacks one of the columns.
    """
    layout: Layout | None = None
    row, open_lines, is_start, is_settled, is_open = 1, b"", True, False, False
    for block in blocks:
        content = block.content
        if is_start:
            content, is_start = content.removeprefix(b"\xef\xbb\xbf"), False
        if block.is_too_long:
            if open_lines and layout:
                batch, _ = _carefully(open_lines, layout, row, is_last=True)
                row, open_lines = row + batch.frame.height, b""
                yield batch
            yield _too_long(content, row)
            row += 1
            continue
        letters = [b'"']
        if layout is None:
            layout, content = _layout(content, delimiter=delimiter, header=header, wanted=columns or [])
            check_columns(columns or [], layout.names, path=path)
            letters.append(b"'")
        if layout.mark != layout.delimiter:
            content = content.replace(NOT_A_LETTER.encode(), b"\0")  # a fault, as it would look like a delimiter
            content = content.replace(layout.delimiter.encode(), NOT_A_LETTER.encode())
        if not is_settled and (any(letter in content for letter in letters) or quote != dialect.AUTO):
            told = dialect.quoting(content, mark=layout.mark, width=len(layout.names), quote=quote, escape=escape)
            layout, is_settled = replace(layout, quoting=told), told != Quoting() or b'"' in content
        layout = replace(layout, encoding=block.encoding)
        is_open = block.is_open
        content = open_lines + _escaped(content, layout)
        if not content:
            continue
        batch, open_lines = _batch(content, layout, row)
        batch = replace(batch, form=f"CSV, {layout}", lists=layout.lists, is_open=is_open and not open_lines)
        row += batch.frame.height
        if batch.frame.height:
            yield _narrow(batch, columns)
    if open_lines and layout:
        batch, _ = _carefully(open_lines, layout, row, is_last=True)
        yield _narrow(replace(batch, form=f"CSV, {layout}", lists=layout.lists, is_open=is_open), columns)


def _escaped(content: bytes, layout: Layout) -> bytes:
    """The lines with a letter of their own for each pair that begins with a backslash; such letters are a fault before."""
    if layout.quoting.is_padded:
        return dialect.without_padding(content, layout.mark)
    if not layout.quoting.has_backslashes or b"\\" not in content:
        return content
    for letter in dialect.LETTERS:
        content = content.replace(letter.encode(), b"\0")
    return dialect.escape_bytes(content)


def _unescaped(text: pl.DataFrame) -> pl.DataFrame:
    for letter, meaning in dialect.LETTERS.items():
        text = text.with_columns(pl.col(pl.String).str.replace_all(letter, meaning, literal=True))
    return text


def _narrow(batch: Batch, columns: list[str] | None) -> Batch:
    return batch if columns is None else replace(batch, frame=batch.frame.select(ROW, FAULT, *dict.fromkeys(columns)))


def _layout(
    content: bytes, *, delimiter: str | None, header: list[str] | None, wanted: list[str]
) -> tuple[Layout, bytes]:
    """The layout, and the content after the header line."""
    content = content.lstrip(b"\n")
    line, _, rest = content.partition(b"\n")
    if told := dialect.named(line.decode(errors="replace")):
        delimiter, content = delimiter or told, rest
        line, _, rest = content.partition(b"\n")
    text = line.decode(errors="replace")
    delimiter = delimiter or dialect.delimiter_of(text, header)
    if header is not None:
        return Layout(delimiter, header, len(header)), content
    names = [name.strip() for name in _header(text.replace(delimiter, _mark(delimiter)), _mark(delimiter))]
    names, lists = dialect.without_types(names, wanted)
    needed = max((place + 1 for place, name in enumerate(names) if name), default=0)
    return Layout(delimiter, names, needed, lists=lists), rest


def _header(text: str, mark: str) -> list[str]:
    quote = "'" if text.startswith("'") and text.rstrip().endswith("'") else '"'
    try:
        return next(csv.reader([text], delimiter=mark, quotechar=quote, skipinitialspace=True), [])
    except csv.Error:  # a stray line end, or longer than any header: its names will not fit, and the error says so
        return text.split(mark)


def _mark(delimiter: str) -> str:
    """A delimiter as one letter of one byte."""
    return delimiter if len(delimiter.encode()) == 1 else NOT_A_LETTER


def _batch(content: bytes, layout: Layout, row: int) -> tuple[Batch, bytes]:
    is_stripped = False
    frame = _clean_lines(content, layout)
    if frame is None:
        frame = _clean_quotes(content, layout)
    else:
        is_stripped = content.isascii() and not any(
            blank in content for blank in BLANKS if blank != layout.delimiter.encode()
        )
    if frame is None:
        return _carefully(content, layout, row, is_last=False)
    lines = _Lines(content)
    if layout.quoting.has_backslashes:
        frame = _unescaped(frame)
    batch = Batch(numbered(frame, row), lambda place: _text(lines.lines[place], layout), is_stripped)
    has_quote = layout.has_quote(content)
    return replace(batch, may_have=lambda text: text in content and (has_quote or text != layout.mark.encode())), b""


@dataclass
class _Lines:
    """The lines of a block, which is cut into them when the first line is asked for."""

    content: bytes

    @cached_property
    def lines(self) -> list[bytes]:
        return self.content.split(b"\n")


def _clean_lines(content: bytes, layout: Layout) -> pl.DataFrame | None:
    """Every line's fields, or None unless each line is surely one record of as many fields as the header has.

    No line has too many fields (polars refuses), and together they have exactly as many as they should: so each has.
    """
    lines, mark = content.count(b"\n"), layout.mark.encode()
    if layout.has_quote(content) or b"\0" in content or b"\r" in content:
        return None
    if content.count(mark) != lines * (len(layout.names) - 1) or len(layout.names) == 1:
        return None
    return _read(content, layout, lines)


def _read(content: bytes, layout: Layout, lines: int) -> pl.DataFrame | None:
    names = [f"column_{place}" for place in range(len(layout.names))]
    try:
        schema = pl.Schema(dict.fromkeys(names, pl.String()))
        frame = pl.read_csv(content, has_header=False, schema=schema, quote_char=None, separator=layout.mark)
    except pl.exceptions.PolarsError:
        return None
    return _named(frame, layout) if frame.height == lines else None


def _clean_quotes(content: bytes, layout: Layout) -> pl.DataFrame | None:
    """Every line's fields where fields are quoted, or None unless each line is one whole record."""
    if not layout.has_quote(content) or b"\0" in content or b"\r" in content:
        return None
    try:
        records = layout.parsed(content.decode())
    except (csv.Error, UnicodeDecodeError):
        return None
    width = len(layout.names)
    if len(records) != content.count(b"\n") or any(len(fields) != width for fields in records):
        return None
    columns = zip(*records, strict=True)
    return _named(pl.DataFrame({f"column_{place}": column for place, column in enumerate(columns)}), layout)


def _named(frame: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Only the columns that have a name; of two with the same name the first."""
    place_of = {name: place for place, name in reversed(list(enumerate(layout.names))) if name}
    return frame.select(pl.col(f"column_{place}").alias(name) for name, place in reversed(place_of.items()))


def _carefully(content: bytes, layout: Layout, row: int, *, is_last: bool) -> tuple[Batch, bytes]:
    """Reads line by line: records that cannot be read get a fault. Also returns the lines of a record that may go on."""
    lines = [line for text in content.split(b"\n")[:-1] for line in _mac_lines(text, layout)]
    mark, commas = layout.mark.encode(), len(layout.names) - 1
    plain: list[bytes] = []
    plain_rows: list[int] = []
    others: list[tuple[int, list[str | None], str | None]] = []
    raws: list[bytes] = []
    place, open_lines = 0, b""
    while place < len(lines):
        line = lines[place]
        if not line.strip():
            place += 1
            continue
        if not layout.has_quote(line) and line.count(mark) == commas and _is_clean(line):
            plain.append(line)
            plain_rows.append(row + len(raws))
            raws.append(line)
            place += 1
            continue
        fields, fault, used = _record(lines, place, layout)
        if fields is None and fault is None:
            if not is_last:
                open_lines = b"\n".join(lines[place:]) + b"\n"
                break
            fault, used = "a quote is never closed", 1
        others.append((row + len(raws), fields or [], fault))
        raws.append(b"\n".join(lines[place : place + used]))
        place += used
    return Batch(_joined(plain, plain_rows, others, layout), lambda place: _text(raws[place], layout)), open_lines


def _mac_lines(line: bytes, layout: Layout) -> list[bytes]:
    """The lines of a part with old Mac line ends; inside quotes these are letters."""
    return line.split(b"\r") if b"\r" in line and not layout.has_quote(line) else [line]


def _text(line: bytes, layout: Layout) -> str:
    text = line.decode(errors="replace").replace(layout.mark, layout.delimiter)
    if layout.quoting.has_backslashes:
        for pair, letter in dialect.ESCAPED.items():
            text = text.replace(letter.decode(), pair.decode())
    return text


def _joined(
    plain: list[bytes], plain_rows: list[int], others: list[tuple[int, list[str | None], str | None]], layout: Layout
) -> pl.DataFrame:
    width = len(layout.names)
    schema = {f"column_{place}": pl.String for place in range(width)}
    padded = [(row, fault, *(fields + [None] * width)[:width]) for row, fields, fault in others]
    odd = pl.DataFrame(padded, schema={ROW: pl.Int64, FAULT: pl.String, **schema}, orient="row")
    named = _unescaped(_named(odd, layout)) if layout.quoting.has_backslashes else _named(odd, layout)
    odd = pl.concat([odd.select(ROW, FAULT), named], how="horizontal")
    if not plain:
        return odd
    frame = _read(b"\n".join(plain) + b"\n", layout, len(plain))
    if frame is None:
        text = [line.decode().split(layout.mark) for line in plain]
        frame = _named(pl.DataFrame(text, schema=schema, orient="row"), layout)
    clean = frame.select(
        pl.Series(ROW, plain_rows, dtype=pl.Int64), pl.lit(None, dtype=pl.String).alias(FAULT), pl.all()
    )
    return pl.concat([clean, odd]).sort(ROW)


def _is_clean(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in line and b"\r" not in line


def _record(lines: list[bytes], place: int, layout: Layout) -> tuple[list[str | None] | None, str | None, int]:
    """Fields or a fault, and how many lines the record takes; neither where the lines end before the record does."""
    text, quotes = b"", 0
    for used, line in enumerate(lines[place : place + JOINED_LINES], 1):
        text = line if used == 1 else text + b"\n" + line
        quotes += line.count(layout.quoting.quote.encode()) if layout.quoting.quote else 0
        if used > 1 and len(text) > JOINED_BYTES:
            return None, "a quote is never closed", 1
        if quotes % 2 and len(text) <= JOINED_BYTES:
            continue
        fields, fault = _parsed(text, layout)
        if fields is None and fault is None:
            continue
        if used > 1 and not layout.quoting.is_trusted and _are_records(lines[place : place + used], layout):
            return (
                None,
                f"a quote that opens here closes {used - 1} lines later, but each line is a whole record; {ADVICE}",
                1,
            )
        # A fault after joining lines says that they did not belong together: only the first is given up.
        return (fields, fault, used) if fault is None or used == 1 else (None, fault, 1)
    if place + JOINED_LINES < len(lines):
        return None, "a quote is never closed", 1
    return None, None, 0


def _are_records(lines: list[bytes], layout: Layout) -> bool:
    """Whether each line is a whole record where quotes are letters."""
    return all(line.count(layout.mark.encode()) == len(layout.names) - 1 for line in lines)


def _parsed(text: bytes, layout: Layout) -> tuple[list[str | None] | None, str | None]:
    if b"\0" in text:
        return None, "a NUL byte"
    try:
        records = layout.parsed(text.decode())
    except UnicodeDecodeError as error:
        return None, _not_of(layout.encoding, error)
    except csv.Error as error:
        return (None, None) if "unexpected end" in str(error) else (None, f"not CSV: {error}; {ADVICE}")
    fields = records[0] if records else []
    if len(records) != 1:
        return None, "not CSV: a line end inside a record"
    if len(fields) < layout.needed or any(field.strip() for field in fields[len(layout.names) :]):
        return None, f"{len(fields)} fields where the header has {len(layout.names)}"
    return [field or None for field in fields], None


def _not_of(encoding: str, error: UnicodeDecodeError) -> str:
    if encoding != "utf-8":
        return f"not {encoding} at byte {error.start + 1}; set encoding in [sources]"
    return f"not UTF-8 at byte {error.start + 1}; set encoding in [sources] if it is another one"


def _too_long(head: bytes, row: int) -> Batch:
    frame = pl.DataFrame({ROW: [row], FAULT: ["a line longer than 1 MiB"]}, schema={ROW: pl.Int64, FAULT: pl.String})
    return Batch(frame, lambda _: head.decode(errors="replace"))
