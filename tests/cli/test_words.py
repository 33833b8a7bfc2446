"""What a person reads is aligned, says ages in one unit, and steers no terminal."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from finresilience.cli.words import age, body, counted, facts, plain, table, written


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0 s"),
        (-5, "0 s"),
        (0.9, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (86400, "1 d"),
        (86400 * 1500, "1,500 d"),
    ],
)
def test_an_age_is_told_in_its_largest_unit(seconds: float, told: str) -> None:
    assert age(seconds) == told


def test_one_is_one_and_many_are_many() -> None:
    assert [counted(n, "key") for n in (0, 1, 1200)] == ["0 keys", "1 key", "1,200 keys"]
    assert counted(2, "id is", "ids are") == "2 ids are"


def test_numbers_stand_to_the_right_and_words_to_the_left() -> None:
    assert table(("name", "n"), [("a", "5"), ("long", "1,200")]) == "name      n\na         5\nlong  1,200"


def test_no_rows_need_no_heads() -> None:
    assert table(("a", "b"), []) == ""


def test_a_fact_without_a_value_is_left_out() -> None:
    assert facts([("a", 0), ("empty", ""), ("none", None), ("bc", "x")]) == "a   0\nbc  x"


@given(st.text(st.characters()))
def test_whatever_a_value_holds_is_printable(text: str) -> None:
    assert plain(text).isprintable()
    assert plain(text) == text or not text.isprintable()


@given(st.lists(st.tuples(st.text(st.characters()), st.integers()), min_size=1))
def test_a_table_has_a_line_a_row(rows: list[tuple[str, int]]) -> None:
    told = table(("name", "n"), rows)
    assert len(told.split("\n")) == len(rows) + 1
    assert all(line.isprintable() for line in told.split("\n"))


@given(st.binary())
def test_bytes_are_told_without_loss(content: bytes) -> None:
    from base64 import b64decode

    told = body(content)
    assert (told["data"].encode() if told["encoding"] == "utf-8" else b64decode(told["data"])) == content
    assert all(line.isprintable() for line in written(content).split("\n"))
