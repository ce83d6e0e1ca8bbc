"""Recommenders behind one protocol: LLM backends and plain baselines."""
