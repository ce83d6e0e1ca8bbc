"""All settings of a user: one file a section, one tree for a night, one reader. Nothing here imports polars or torch."""

from dealrec_core.settings.reader import found, load, read
from dealrec_core.settings.tree import Config

__all__ = ["Config", "found", "load", "read"]
