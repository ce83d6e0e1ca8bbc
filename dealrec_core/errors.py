"""The errors of dealrec, one class for each thing that the reader can do about them. Every message gives the value, the limit and
the next step."""

import unicodedata
from collections.abc import Sequence


def plain(text: object) -> str:
    """Text from data, such as a title or an id, as a terminal, a log or a page may show it: a letter that is not printed is its code.

    >>> plain("\\x1b]0;title\\x07, \\u202egnp.exe, two\\nlines")
    '\\\\x1b]0;title\\\\x07, \\\\u202egnp.exe, two\\\\nlines'
    """
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(letter if letter.isprintable() else _code(letter) for letter in shown)


def _code(letter: str) -> str:
    return " " if unicodedata.category(letter) == "Zs" else ascii(letter)[1:-1]


class DealrecError(Exception):
    """Base of every error that dealrec raises on purpose; its text is fit to be shown to a user as one line."""

    def __str__(self) -> str:
        return plain(super().__str__())


class SettingsError(DealrecError):
    """A setting is unknown, out of bounds or contradicts another: edit pipeline.toml, the --set option or the environment."""


class SourceError(DealrecError):
    """A raw file, folder or bucket is missing or cannot be read: fix the path, the rights or the file."""


class DataError(DealrecError):
    """The data was read, but is not enough for this step: too few samples, too many bad rows."""


class OtherFormat(DataError):
    """A stored model was written by another version of this program: make it again."""


class NumericsError(DealrecError):
    """A computation gave no usable answer."""


class NotConverged(NumericsError):
    """An iterative solver stopped above its tolerance: give it more steps or more damping."""


class NotFinite(NumericsError):
    """A NaN or an infinity appeared in a loss, gradient or score: find the one that the message names."""

    rows: Sequence[int] = ()
    """Places of the samples concerned, where the message cannot name them."""


class LakeError(DealrecError):
    """A lake table is missing, torn, or was changed under the writer."""


class DiskFull(LakeError):
    """A disk has no space left: free some and run it again."""


class NightBusy(DealrecError):
    """Another night, an erasure or an upkeep holds this lake: wait for it."""


class RegistryError(DealrecError):
    """The model registry refused a request or does not answer."""


class ServerGone(DealrecError):
    """Prefect's server does not answer: start it, then run the command again."""
