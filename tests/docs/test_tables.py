"""Every table on the pages is whole: each row has as many cells as its head."""

from __future__ import annotations

import re
from itertools import groupby

import pytest

from tests.docs.pages import PAGES, prose, read


def ragged(text: str) -> list[str]:
    """Return the rows that have more or fewer cells than the first row of their table."""
    wrong: list[str] = []
    for is_table, lines in groupby(prose(text).splitlines(), key=lambda line: line.startswith("|")):
        rows = [(line, len(re.findall(r"(?<!\\)\|", line))) for line in lines] if is_table else []
        wrong += [line for line, cells in rows if cells != rows[0][1]]
    return wrong


@pytest.mark.parametrize("page", PAGES)
def test_every_row_has_as_many_cells_as_its_head(page: str) -> None:
    assert ragged(read(page)) == []


def test_a_row_with_a_cell_too_many_is_found_out() -> None:
    assert ragged("| a | b |\n|---|---|\n| 1 | 2 | 3 |\n") == ["| 1 | 2 | 3 |"]
