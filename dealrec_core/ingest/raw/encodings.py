"""Turns text of any encoding into UTF-8: as a setting says, as a byte order mark says, or as the bytes themselves show."""

import codecs
import re
from collections.abc import Iterator

AUTO = "auto"
WESTERN = "cp1252"
"""Windows-1252, which holds Latin-1: the one encoding without a mark that is told from its bytes."""
MARKS = [
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
]
ISO_2022_JP = (b"\x1b$B", b"\x1b$@")
"""Escape sequences that begin Japanese letters in ISO-2022-JP, an encoding in which every byte is ASCII."""
BAD = "\udcff"
"""Stands for bytes that the encoding does not have; it is no UTF-8, so the record gets a fault."""
RUN = re.compile(rb"(?s)(.?)([\x80-\xff]+)(?=(.?))")
RUNS = 50_000
"""Most runs of bytes beyond ASCII that are looked at."""
PUNCTUATION = set("’‘“”„‚–—…«»°©®™ªº¡¿´·£€½¼¾§•‹›†")
ELSEWHERE = set("ðþýÐÞÝ")
"""Letters of Iceland, whose bytes are far more often ğ, ş, ı of Turkish or ž of the Baltic: nobody can say."""
TRUNCATED = set(b"\xc2\xc3\xc5")
"""First bytes of the UTF-8 of Western letters: before a blank or a mark they are cut letters."""


def of_head(head: bytes) -> str:
    """Returns the encoding of a file whose mark or NUL bytes show it, else AUTO."""
    for mark, name in MARKS:
        if head.startswith(mark):
            return name
    if any(escape in head for escape in ISO_2022_JP):
        return "iso2022_jp"
    even, odd = head[::2].count(0), head[1::2].count(0)
    if len(head) >= 8 and max(even, odd) * 5 > len(head) and min(even, odd) * 10 < max(even, odd):
        return "utf-16-le" if odd > even else "utf-16-be"
    return AUTO


def decoded(chunks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """Yields the text as UTF-8; what the encoding does not have becomes bytes that are no UTF-8."""
    decoder = codecs.getincrementaldecoder(encoding)(errors=_handler())
    for chunk in chunks:
        if content := _utf8(decoder.decode(chunk)):
            yield content
    if content := _utf8(decoder.decode(b"", final=True)):
        yield content


def utf8_of(content: bytes, encoding: str) -> bytes:
    """Returns whole lines as UTF-8."""
    return _utf8(content.decode(encoding, errors=_handler()))


def is_western(content: bytes) -> bool:
    """Whether bytes that are no UTF-8 are surely Windows-1252 text: single accented letters between others, and its marks.

    Words of such bytes (Cyrillic, Chinese) and lone bytes between delimiters are not.
    """
    plausible = runs = 0
    for found in RUN.finditer(content):
        before, run, after = found.groups()
        runs += 1
        plausible += _is_plausible(before, run, after)
        if runs == RUNS:
            break
    return runs > 0 and plausible >= 0.9 * runs


def has_utf8(content: bytes) -> bool:
    """Whether some letter beyond ASCII is whole UTF-8."""
    return any(_is_utf8(found[2]) for found in RUN.finditer(content))


def _is_plausible(before: bytes, run: bytes, after: bytes) -> bool:
    if len(run) > 2:
        return False
    try:
        text = run.decode(WESTERN)
    except UnicodeDecodeError:
        return False
    inside = before.isalpha() and after.isalpha()
    if ELSEWHERE & set(text):
        return False
    if all(letter.isalpha() and letter not in "ªº" for letter in text):
        is_odd = (run[-1] in TRUNCATED and not after.isalpha()) or (text.isupper() and before.islower())
        return (before.isalpha() or after.isalpha()) and not is_odd
    return all(letter in PUNCTUATION for letter in text) and (not inside or text in "’–·ªº")


def _is_utf8(run: bytes) -> bool:
    try:
        run.decode()
    except UnicodeDecodeError:
        return False
    return True


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _handler() -> str:
    """The name of the error handler that puts BAD in the place of what cannot be decoded."""
    name = "dealrec.bad"
    codecs.register_error(name, lambda error: (BAD, getattr(error, "end", 0)))
    return name
