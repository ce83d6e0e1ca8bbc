"""Coreset selection: combine scores, stratify, draw; one file per method."""
