"""Coreset selection: `coreset.select` with its settings and its result."""

from dealrec_core.coreset.selection import Selection, select
from dealrec_core.settings.coreset import CoresetConfig

__all__ = ["CoresetConfig", "Selection", "select"]
