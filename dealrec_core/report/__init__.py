"""The report of a night: sections of figures and charts, as one HTML page or as Markdown."""

from dealrec_core.report.page import markdown, page
from dealrec_core.report.sections import Section, section, sections

__all__ = ["Section", "markdown", "page", "section", "sections"]
