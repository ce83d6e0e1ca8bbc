"""Surrogate recommenders: small sequence models that stand in for the LLM when influence is computed."""
