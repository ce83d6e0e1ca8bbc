"""A raw file becomes rows of the lake: found, read, checked, told from duplicates, and landed exactly once."""
