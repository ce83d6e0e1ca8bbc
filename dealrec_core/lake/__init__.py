"""What is kept, exactly once: Delta tables, small files, the records of nights, and who is champion."""

from dealrec_core.lake.tables import Conflict, Lake, lock

__all__ = ["Conflict", "Lake", "lock"]
