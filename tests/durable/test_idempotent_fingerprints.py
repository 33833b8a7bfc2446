"""Equal requests have equal digests, in every process and on every day; different ones do not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, strategies as st

from finresilience import ConfigurationError, Money
from finresilience.durable.fingerprints import fingerprint_of


class Status(StrEnum):
    PAID = "paid"


@dataclass
class Request:
    amount: Money
    to: str


class Struct(msgspec.Struct):
    amount: Money
    to: str


ALIKE: list[tuple[Any, Any]] = [
    (Decimal("50.0"), Decimal("50.00")),
    (Decimal("-0"), Decimal(0)),
    (Decimal("1E+2"), Decimal(100)),
    (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ({1, 2, 3}, frozenset({3, 2, 1})),
    ((1, 2), [1, 2]),
    (Request(Money("1", "JPY"), "a"), Struct(Money("1", "JPY"), "a")),
]
UNLIKE: list[tuple[Any, Any]] = [
    (50, "50"),
    (1, True),
    (1, 1.0),
    (0, None),
    (Decimal(50), 50),
    (Decimal("1e30") + Decimal(0), Decimal("1e29")),
    (Decimal(10**31 + 1), Decimal(10**31 + 2)),
    (Money("50.00", "USD"), Money("50.00", "EUR")),
    (Money("50.00", "USD"), Money("5000", "JPY")),
    (b"a", "a"),
    (date(2026, 1, 1), datetime(2026, 1, 1)),
    (Status.PAID, "paid"),
    ({"$decimal": "5e1"}, Decimal(50)),
    ([["a"], "b"], ["a", ["b"]]),
    (UUID(int=1), UUID(int=1).hex),
    (timedelta(1), [1, 0, 0]),
]


@pytest.mark.parametrize(("one", "other"), ALIKE, ids=repr)
def test_the_same_request_has_the_same_digest(one: Any, other: Any) -> None:
    assert fingerprint_of(one) == fingerprint_of(other)


@pytest.mark.parametrize(("one", "other"), UNLIKE, ids=repr)
def test_another_request_has_another_digest(one: Any, other: Any) -> None:
    assert fingerprint_of(one) != fingerprint_of(other)
    assert fingerprint_of({"it": one}) != fingerprint_of({"it": other})


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def typed(value: Any) -> Any:
    """Tell 1 from True, which Python takes for equal."""
    if isinstance(value, list):
        return [typed(part) for part in value]
    return {name: typed(part) for name, part in value.items()} if isinstance(value, dict) else (type(value), value)


@given(values, values)
def test_two_values_share_a_digest_if_and_only_if_they_are_equal(one: Any, other: Any) -> None:
    assert (fingerprint_of(one) == fingerprint_of(other)) == (typed(one) == typed(other))


@given(st.decimals(allow_nan=False, allow_infinity=False), st.integers(0, 5))
def test_noughts_at_the_end_do_not_make_another_amount(amount: Decimal, noughts: int) -> None:
    sign, digits, exponent = amount.as_tuple()
    longer = Decimal((sign, (*digits, *[0] * noughts), int(exponent) - noughts))
    assert fingerprint_of(amount) == fingerprint_of(longer)


def test_positions_are_told_from_names() -> None:
    assert len({fingerprint_of("a"), fingerprint_of(a="a"), fingerprint_of("a", "a"), fingerprint_of(["a", "a"])}) == 4


def test_the_digest_is_what_it_has_always_been() -> None:
    """A digest that changes from release to release makes every retry across it a mismatch."""
    told = fingerprint_of(Request(Money("50.00", "USD"), "acc_1"), note=None, at=datetime(2026, 1, 1, tzinfo=UTC), rate=Decimal("1.10"))
    assert told == "v1:13fa6c128b86dea0eb416c2e51e8dbd3fe5ebabc2064b3f4e494a356dbccc6fd"


@pytest.mark.parametrize(
    "value", [object(), lambda: 1, float("nan"), Decimal("NaN"), {1: 2}, Request, iter([1])], ids=lambda value: type(value).__name__
)
def test_what_has_no_lasting_spelling_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="fields that count"):
        fingerprint_of(value)


def test_a_request_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ConfigurationError):
        fingerprint_of(loop)


def test_it_shows_nothing_of_the_request() -> None:
    assert "4242" not in fingerprint_of("4242")
    assert len(fingerprint_of("4242" * 1000)) == 67
