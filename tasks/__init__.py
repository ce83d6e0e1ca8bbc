"""Prefect tasks: each reads, calls one core function, writes, and returns a small Snapshot."""
