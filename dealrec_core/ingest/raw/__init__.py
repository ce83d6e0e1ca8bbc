"""Raw log files as batches of records: bounded memory, every record numbered, every broken one with its reason."""
