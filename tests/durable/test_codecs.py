"""What is kept comes back as it was, typed, or is refused when it is kept; never as something that is nearly right."""

from __future__ import annotations

import pickle
import sys
from dataclasses import InitVar, dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from types import SimpleNamespace
from typing import Any, Literal
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, strategies as st

from finresilience import ConfigurationError, Money
from finresilience.durable.codec_declines import decline_codec
from finresilience.durable.codecs import checked_codec, dataclass_codec, json_codec, msgspec_codec
from tests.ids import named


class Status(StrEnum):
    PAID = "paid"
    PENDING = "pending"


class Rank(IntEnum):
    FIRST = 1


class Odd(Enum):
    FLOAT = 1.5


@dataclass(frozen=True)
class Line:
    amount: Money
    note: str | None = None


@dataclass(frozen=True)
class Order:
    id: UUID
    at: datetime
    on: date
    status: Status
    rank: Rank
    total: Money
    rate: Decimal
    score: float
    count: int
    paid: bool
    raw: bytes
    kind: Literal["card", "bank"]
    lines: list[Line] = field(default_factory=list)
    pair: tuple[int, str] = (1, "a")
    many: tuple[int, ...] = ()
    tags: dict[str, int] = field(default_factory=dict)
    parent: Order | None = None


def order(**more: Any) -> Order:
    told: dict[str, Any] = {
        "id": UUID(int=7),
        "at": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        "on": date(2026, 1, 2),
        "status": Status.PAID,
        "rank": Rank.FIRST,
        "total": Money("50.00", "USD"),
        "rate": Decimal("1.10"),
        "score": 0.1,
        "count": 3,
        "paid": True,
        "raw": b"\x00\xff",
        "kind": "card",
        **more,
    }
    return Order(**told)


# ---------------------------------------------------------------- dataclasses


def test_every_type_that_it_takes_comes_back_as_it_was() -> None:
    codec = dataclass_codec(Order)
    whole = order(lines=[Line(Money("1", "JPY"), "tip")], many=(1, 2), tags={"a": 1}, parent=order())
    back = codec.decode(codec.encode(whole))
    assert back == whole
    assert (type(back.status), type(back.rank), type(back.lines[0]), type(back.total)) == (Status, Rank, Line, Money)
    assert str(back.rate) == "1.10"


@given(amount=st.integers(-(10**20), 10**20), note=st.none() | st.text())
def test_any_money_and_any_text_come_back(amount: int, note: str | None) -> None:
    codec = dataclass_codec(Line)
    line = Line(Money.minor(amount, "USD"), note)
    assert codec.decode(codec.encode(line)) == line


@pytest.mark.parametrize("money", [Money("0.5", "XAU", exponent=4), Money("5", "JPY"), Money("5.000", "KWD"), Money("-1.00", "USD")])
def test_money_keeps_its_currency_and_its_decimals(money: Money) -> None:
    for codec in (dataclass_codec(Line), msgspec_codec(Line)):
        assert codec.decode(codec.encode(Line(money))).amount == money


@pytest.mark.parametrize(
    "kept", [b'{"amount":50.0}', b'{"amount":{"amount":50.0,"currency":"USD"}}', b'{"amount":{"amount":50,"currency":"USD"}}']
)
def test_money_never_comes_from_a_number(kept: bytes) -> None:
    for codec in (dataclass_codec(Line), msgspec_codec(Line)):
        with pytest.raises((TypeError, ValueError)):
            codec.decode(kept)


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": True},
        {"count": "3"},
        {"paid": 1},
        {"score": float("nan")},
        {"score": 1},
        {"total": Decimal(50)},
        {"rate": 1.1},
        {"rate": Decimal("NaN")},
        {"status": "paid"},
        {"kind": "cash"},
        {"lines": (Line(Money("1", "JPY")),)},
        {"pair": (1, "a", 2)},
        {"tags": {1: 1}},
        {"on": datetime(2026, 1, 2)},
        {"raw": "text"},
    ],
    ids=named,
)
def test_a_value_of_another_type_than_declared_is_refused_when_it_is_kept(wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(wrong))):
        dataclass_codec(Order).encode(order(**wrong))


ODD: Any = b"4242424242424242"


def test_the_error_shows_the_field_and_nothing_of_the_value() -> None:
    with pytest.raises(TypeError) as caught:
        dataclass_codec(Line).encode(Line(Money("1", "JPY"), ODD))
    assert "Line.note" in str(caught.value)
    assert "4242" not in str(caught.value)


@dataclass
class Newer:
    amount: Money
    fee: Money | None = None


@dataclass
class Needy:
    amount: Money
    fee: Money


def test_a_field_that_came_later_has_its_default_in_old_answers_and_one_that_went_is_ignored() -> None:
    old = dataclass_codec(Line).encode(Line(Money("1", "JPY"), "gone"))
    assert dataclass_codec(Newer).decode(old) == Newer(Money("1", "JPY"))


def test_an_old_answer_without_a_field_that_is_needed_is_not_made_up() -> None:
    with pytest.raises(TypeError, match="fee"):
        dataclass_codec(Needy).decode(b'{"amount":{"amount":"1","currency":"JPY"}}')


@pytest.mark.parametrize("kept", [b"[]", b'"x"', b"{", b'{"amount":"1"}'])
def test_bytes_of_something_else_are_refused(kept: bytes) -> None:
    with pytest.raises((TypeError, ValueError)):
        dataclass_codec(Line).decode(kept)


@dataclass
class Anything:
    value: Any


@dataclass
class Either:
    value: int | str


@dataclass
class OfNumbers:
    value: dict[int, str]


@dataclass
class Bare:
    value: list  # type: ignore[type-arg]  # pyright: ignore[reportMissingTypeArgument] - the mistake under test


@dataclass
class OfObject:
    value: object


@dataclass
class OfOdd:
    value: Odd


@dataclass
class Secretive:
    amount: int
    salt: InitVar[int]


@pytest.mark.parametrize("kind", [Anything, Either, OfNumbers, Bare, OfObject, OfOdd, Secretive], ids=lambda kind: kind.__name__)
def test_what_could_not_come_back_is_refused_when_the_codec_is_made(kind: type[Any]) -> None:
    with pytest.raises(ConfigurationError):
        dataclass_codec(kind)


@pytest.mark.parametrize("kind", [dict, int, "Order", order()], ids=lambda kind: str(kind)[:10])
def test_only_a_dataclass_has_a_dataclass_codec(kind: Any) -> None:
    with pytest.raises(ConfigurationError):
        dataclass_codec(kind)


def test_the_same_value_has_the_same_bytes() -> None:
    codec = dataclass_codec(Order)
    assert codec.encode(order(tags={"a": 1, "b": 2})) == codec.encode(order(tags={"b": 2, "a": 1}))


# ---------------------------------------------------------------- JSON


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_plain_json_comes_back(value: Any) -> None:
    assert json_codec().decode(json_codec().encode(value)) == value


@pytest.mark.parametrize("value", [(1,), {1: 2}, {"a": {1}}, Decimal(1), object(), float("inf"), b"x", Status.PAID], ids=named)
def test_json_refuses_what_would_come_back_as_something_else(value: Any) -> None:
    with pytest.raises(TypeError):
        json_codec().encode({"value": value})


def test_json_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(TypeError):
        json_codec().encode(loop)


# ---------------------------------------------------------------- msgspec


class Receipt(msgspec.Struct, frozen=True):
    id: str
    amount: Money
    rate: Decimal = Decimal("1.10")


def test_a_struct_with_money_comes_back() -> None:
    codec = msgspec_codec(Receipt)
    receipt = Receipt("r_1", Money("50.00", "USD"))
    assert codec.decode(codec.encode(receipt)) == receipt


class Unequal(msgspec.Struct, eq=False):
    id: str


def test_a_struct_that_is_equal_to_nothing_is_compared_as_it_is_written() -> None:
    codec = msgspec_codec(Unequal)
    assert codec.decode(codec.encode(Unequal("r_1"))).id == "r_1"


NUMBER: Any = 7
UNREADABLE: Any = int | set[int] | list[int]


def test_msgspec_refuses_what_it_could_not_read_back() -> None:
    codec: Any = msgspec_codec(Receipt)
    for value in ({"id": 7}, "text", object(), Receipt(NUMBER, Money("1", "JPY"))):
        with pytest.raises(TypeError):
            codec.encode(value)


def test_a_type_that_msgspec_cannot_read_is_refused_when_the_codec_is_made() -> None:
    with pytest.raises(ConfigurationError):
        msgspec_codec(UNREADABLE)


def test_without_msgspec_the_error_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "msgspec", None)
    with pytest.raises(ConfigurationError, match=r"finresilience\[msgspec\]"):
        msgspec_codec(Receipt)


# ---------------------------------------------------------------- declines


class NoError(Exception):
    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Lying(Exception):
    def __init__(self, code: str) -> None:
        super().__init__("declined: " + code)


def test_a_decline_comes_back_as_its_class_with_its_arguments() -> None:
    codec = decline_codec(NoError)
    back = codec.decode(codec.encode(NoError("51")))
    assert (type(back), back.code) == (NoError, "51")


UNMAKEABLE: list[Any] = [ValueError("51"), Lying("51"), NoError({"a"})]  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - the mistake under test


@pytest.mark.parametrize("error", UNMAKEABLE, ids=named)
def test_a_decline_that_could_not_be_made_again_is_refused(error: Any) -> None:
    with pytest.raises(TypeError):
        decline_codec(NoError, Lying).encode(error)


def test_bytes_that_name_another_class_make_nothing() -> None:
    for kept in (b'{"class":"SystemExit","args":[]}', b"[]", b'{"class":"NoError","args":7}'):
        with pytest.raises(TypeError):
            decline_codec(NoError).decode(kept)


@pytest.mark.parametrize("classes", [(), (NoError, NoError), (int,)])
def test_a_decline_codec_takes_exceptions_of_different_names(classes: Any) -> None:
    with pytest.raises(ConfigurationError):
        decline_codec(*classes)


# ---------------------------------------------------------------- any codec


@pytest.mark.parametrize(
    "codec",
    [pickle, None, object(), SimpleNamespace(encode=pickle.dumps, decode=pickle.loads), SimpleNamespace(encode=1, decode=2)],
    ids=["the module", "none", "an object", "its functions", "no functions"],
)
def test_a_pickle_is_no_codec(codec: Any) -> None:
    with pytest.raises(ConfigurationError):
        checked_codec(codec)


def test_codecs_say_what_they_are_of() -> None:
    assert [repr(codec) for codec in (json_codec(), dataclass_codec(Line), msgspec_codec(Line), decline_codec(NoError))] == [
        "json_codec()",
        "dataclass_codec(Line)",
        "msgspec_codec(Line)",
        "decline_codec(NoError)",
    ]
