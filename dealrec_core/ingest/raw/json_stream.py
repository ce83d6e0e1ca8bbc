"""Puts every object of a JSON text on a line of its own: arrays, objects over several lines, objects without line ends."""

import codecs
import json
import re
from collections.abc import Iterator

BLANKS = re.compile(r"[\s,\]]*")
"""Characters that may stand between objects, or after the last object of an array."""
ENTRY_LETTERS = 2**18
"""A longer object is no record, but perhaps an envelope around many."""
DECODER = json.JSONDecoder()


def is_stream(head: bytes) -> bool:
    """Whether JSON text is not one object a line: it begins with an array, or its first line is not one whole object."""
    text = head.lstrip()
    if text.startswith(b"["):
        return True
    line, newline, _ = text.partition(b"\n")
    if len(line) > ENTRY_LETTERS:
        return True
    if not newline and len(head) < ENTRY_LETTERS:
        newline = b"\n"
    try:
        first = line.decode(errors="replace").strip()
        _, end = DECODER.raw_decode(first)
        return end < len(first)
    except (ValueError, RecursionError):
        return line.strip() in (b"{", b"") or not newline or line.rstrip()[-1:] in (b",", b"{", b"[")


def lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yields the objects, each as a line; what is no JSON stays as it is, up to its line end."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")
    rest, is_start, is_end = "", True, False
    while not is_end:
        chunk = next(chunks, b"")
        is_end = not chunk
        rest += decoder.decode(chunk, final=is_end)
        if is_start:
            rest = rest.lstrip().removeprefix("[")
            is_start = not rest and not is_end
        found, rest = _objects(rest, is_end=is_end)
        if found:
            yield ("\n".join(found) + "\n").encode(errors="surrogateescape")


def _objects(text: str, *, is_end: bool) -> tuple[list[str], str]:
    """The whole objects at the beginning of a text, and what may go on in the next chunk."""
    found: list[str] = []
    place = 0
    while True:
        start = place
        blanks = BLANKS.match(text, start)
        place = blanks.end() if blanks else start
        if place >= len(text):
            return found, ""
        try:
            value, end = DECODER.raw_decode(text, place)
            if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
                found += [json.dumps(entry) for entry in value]
                place = end
                continue
            if end - place > ENTRY_LETTERS:
                end = _end_of_fault(text, place)
        except (ValueError, RecursionError):
            if not is_end and len(text) - place < ENTRY_LETTERS:
                return found, text[place:]
            end = _end_of_fault(text, place)
        found.append(text[place:end].replace("\n", " ").replace("\r", " "))
        place = end


def _end_of_fault(text: str, place: int) -> int:
    """Where the next object may begin: after the line, or at the next object in it."""
    ends = [end for end in (text.find("\n", place), text.find('{"', place + 1)) if end > place]
    return min(ends, default=len(text))
