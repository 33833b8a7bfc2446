"""What the documentation shows is what happens."""

import doctest
from pathlib import Path

import pytest

from finresilience import _currencies, money

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "money.md"


@pytest.mark.parametrize("module", [money, _currencies], ids=lambda module: module.__name__)
def test_the_examples_in_the_docstrings_are_true(module):
    failed, attempted = doctest.testmod(module)
    assert attempted
    assert not failed


def test_the_examples_on_the_page_are_true():
    failed, attempted = doctest.testfile(str(PAGE), module_relative=False)
    assert attempted
    assert not failed
