"""Coreset selection: combine scores, stratify, draw."""

from dealrec_core.coreset.selection import CoresetConfig, Selection, select

__all__ = ["CoresetConfig", "Selection", "select"]
