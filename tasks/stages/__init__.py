"""One file a stage: it takes what Tonight reads, calls the core, writes, and returns a Snapshot."""
