"""Prefect flows: each puts tasks in order. Start reading at nightly.py."""
