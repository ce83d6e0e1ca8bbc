"""Text from data, such as titles and ids, as a page may hold it."""

import re
from html import escape

from dealrec_core.errors import plain


def markdown(text: object) -> str:
    """The text as Markdown shows it to the letter: it becomes no link, picture, heading, cell or tag.

    >>> markdown("![x](http://y) <b> a|b")
    '!\\\\[x\\\\](http://y) &lt;b> a\\\\|b'
    """
    escaped = re.sub(r"([\\`*_\[\]|~#])", r"\\\1", plain(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;")


def html(text: object) -> str:
    """The text as HTML shows it to the letter."""
    return escape(plain(text))
