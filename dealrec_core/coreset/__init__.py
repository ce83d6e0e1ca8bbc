"""Coreset selection: combine scores, stratify, draw."""

from dealrec_core.coreset.selection import Selection, select
from dealrec_core.settings.coreset import CoresetConfig

__all__ = ["CoresetConfig", "Selection", "select"]
