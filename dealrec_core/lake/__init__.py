"""Keeps rows and files exactly once: Delta tables, small files, the records of nights, and the decisions about the champion."""

from dealrec_core.lake.commit import Conflict
from dealrec_core.lake.locks import lock
from dealrec_core.lake.tables import Lake

__all__ = ["Conflict", "Lake", "lock"]
