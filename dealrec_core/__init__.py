"""DEALRec: choose the few samples worth fine-tuning an LLM recommender on. Numerics and domain, no orchestration."""
