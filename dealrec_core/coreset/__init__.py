"""Coreset selection: `coreset.select` on scored samples, `coreset.choose_rows` on any frame, with settings and result."""

from dealrec_core.coreset.frames import choose_rows
from dealrec_core.coreset.selection import Selection, select
from dealrec_core.settings.coreset import CoresetConfig

__all__ = ["CoresetConfig", "Selection", "choose_rows", "select"]
