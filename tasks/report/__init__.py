"""The report of a night: sections of figures and charts, as one HTML page or as Markdown."""

from tasks.report.page import markdown, page
from tasks.report.sections import Section, section, sections

__all__ = ["Section", "markdown", "page", "section", "sections"]
