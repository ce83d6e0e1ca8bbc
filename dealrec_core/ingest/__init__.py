"""Turns raw files into rows of the lake: reads them, checks every row, drops duplicates, and commits each row exactly once."""
