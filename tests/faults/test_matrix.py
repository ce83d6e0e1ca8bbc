"""The matrix says what the tests test, and the page of operations shows it."""

import ast

import pytest

from tests.faults import matrix, safeguards


@pytest.mark.parametrize("cell", matrix.CELLS, ids=lambda cell: f"{cell.component}: {cell.fault}")
def test_the_test_of_a_cell_is_there(cell):
    functions = {
        node.name for node in ast.parse(cell.file.read_text("utf-8")).body if isinstance(node, ast.FunctionDef)
    }
    assert cell.test.split("::")[1] in functions


def test_no_cell_stands_twice():
    cells = [(cell.component, cell.fault) for cell in matrix.CELLS]
    assert len(set(cells)) == len(cells)


def test_the_operations_page_shows_the_matrix():
    page = matrix.PAGE.read_text("utf-8")
    assert matrix.page_with_table(page) == page, "run python tests/faults/matrix.py"


def test_every_cell_has_a_safeguard_that_can_be_taken_out_of_the_code():
    assert [each[:2] for each in safeguards.SAFEGUARDS] == [cell[:2] for cell in matrix.CELLS]
    for each in safeguards.SAFEGUARDS:
        text = (matrix.ROOT / each.path).read_text("utf-8")
        assert text.count(each.code) == 1, f"{each.path} has changed: see tests/faults/safeguards.py"


def test_the_operations_page_shows_the_safeguards():
    page = matrix.PAGE.read_text("utf-8")
    assert safeguards.page_with_table(page) == page, "run python tests/faults/safeguards.py table"
