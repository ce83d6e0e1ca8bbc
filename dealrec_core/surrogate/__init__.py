"""Surrogate networks: small recommenders whose gradients stand in for the language model's."""
