"""Examples in docstrings are run, so that they stay true."""

import doctest
import importlib

import pytest

MODULES = [
    "dealrec_core",
    "dealrec_core.coreset.base",
    "dealrec_core.coreset.budget",
    "dealrec_core.coreset.combine",
    "dealrec_core.coreset.frames",
    "dealrec_core.coreset.selection",
    "dealrec_core.coreset.stratify",
    "dealrec_core.evaluation.comparison",
    "dealrec_core.evaluation.gate",
    "dealrec_core.evaluation.metrics",
    "dealrec_core.evaluation.slices",
    "dealrec_core.influence.modules",
    "dealrec_core.influence.scores",
    "dealrec_core.samples.contents",
    "dealrec_core.ingest.frames",
    "dealrec_core.samples.items",
    "dealrec_core.samples.sequences",
    "dealrec_core.samples.split",
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_hold(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
