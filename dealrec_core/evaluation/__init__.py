"""Comparison of recommenders: metrics per user, one paired bootstrap, the gate, the proxy."""
