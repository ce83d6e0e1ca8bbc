"""The report of a night: its parts, what they say, and their form as one HTML page or as Markdown."""

from tasks.report.parts import Section
from tasks.report.sections import section
from tasks.report.text import markdown

__all__ = ["Section", "markdown", "section"]
