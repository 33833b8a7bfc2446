"""What a caller writes into a header is read, or refused by name; it is never trusted, and never crashes us."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

from finresilience import current_key, deadline, idempotency_key, outbound_headers
from finresilience.context import MAX_KEY
from finresilience.integrations.headers import HeaderError, incoming_attempts, incoming_key, incoming_timeout
from finresilience.testing import instant
from tests.integrations.asgi_calls import scope_of
from tests.laws.sabotage import kills

if TYPE_CHECKING:
    from collections.abc import Callable

READERS: dict[str, Callable[[Any], object]] = {
    "Request-Timeout-Ms": incoming_timeout,
    "grpc-timeout": lambda scope: incoming_timeout(scope, "grpc-timeout"),
    "Previous-Attempts": incoming_attempts,
    "Idempotency-Key": incoming_key,
    "X-Idempotency-Key": incoming_key,
}
numbers = st.integers(-(10**20), 10**25).map(str)
looks_right = st.one_of(
    numbers, st.from_regex(r"[0-9]{1,30}[HMSmunX]?", fullmatch=True), st.floats().map(str), st.just('"'), st.just('"\\')
)
values = st.one_of(st.binary(max_size=400), looks_right.map(str.encode), st.just(b"9" * 10_000))
keys = st.text(string.ascii_letters + string.digits + "-_.:/+= ;", min_size=1, max_size=MAX_KEY).filter(lambda key: key == key.strip())
printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=MAX_KEY).filter(lambda key: key == key.strip())


def one(header: str, *texts: str | bytes) -> Any:
    return scope_of([(header, text) for text in texts])


# ---------------------------------------------------------------- no header crashes, no error tells what it held


@pytest.mark.parametrize("header", READERS)
@given(text=values)
def test_whatever_a_header_holds_it_is_read_or_refused_by_its_name(header: str, text: bytes) -> None:
    try:
        READERS[header](one(header, text))
    except HeaderError as error:
        assert error.header == header
        assert error.reason.isascii()


@pytest.mark.parametrize("header", READERS)
def test_a_refused_header_is_not_repeated_in_the_error(header: str) -> None:
    with pytest.raises(HeaderError) as caught:
        READERS[header](one(header, "4111111111111111,\x00"))
    assert "4111" not in str(caught.value)
    assert str(caught.value).startswith(f"{header} ")


@pytest.mark.parametrize("header", READERS)
def test_a_header_that_is_there_twice_is_refused_even_if_both_agree(header: str) -> None:
    with pytest.raises(HeaderError, match="more than once"):
        READERS[header](one(header, "5", "5"))


@pytest.mark.parametrize(("header", "silence"), [(header, 0 if header == "Previous-Attempts" else None) for header in READERS])
def test_a_caller_that_says_nothing_has_said_nothing(header: str, silence: object) -> None:
    assert READERS[header](scope_of([("Host", "acme.test")])) == silence


@pytest.mark.parametrize("header", READERS)
def test_the_name_of_a_header_is_known_in_any_case(header: str) -> None:
    text = "5S" if header == "grpc-timeout" else "5"
    assert READERS[header](one(header.upper(), text)) == READERS[header](one(header.lower(), text)) is not None


# ---------------------------------------------------------------- the time left


@given(st.integers(0, 10**17))
def test_milliseconds_are_milliseconds(left: int) -> None:
    assert incoming_timeout(one("Request-Timeout-Ms", f" {left}\t")) == left / 1000


@pytest.mark.parametrize(
    ("text", "seconds"), [("1H", 3600), ("2M", 120), ("3S", 3), ("250m", 0.25), ("10u", 1e-5), ("1n", 1e-9), ("99999999H", 99999999 * 3600)]
)
def test_grpcs_own_units_are_read_as_grpc_means_them(text: str, seconds: float) -> None:
    assert incoming_timeout(one("grpc-timeout", text), "grpc-timeout") == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", " ", "-1", "+1", "1.5", "1e3", "0x10", "1_000", "٣", "²", "1 2", "1,2", "nan", "inf", "9" * 19, "1S"])
def test_what_is_no_whole_number_is_no_time(text: str) -> None:
    with pytest.raises(HeaderError):
        incoming_timeout(one("Request-Timeout-Ms", text.encode()))


@pytest.mark.parametrize("text", ["", "1", "S", "1s", "1 S", "-1S", "1.5S", "123456789S", "1SS"])
def test_what_grpc_does_not_write_is_not_read_as_grpc(text: str) -> None:
    with pytest.raises(HeaderError):
        incoming_timeout(one("grpc-timeout", text), "grpc-timeout")


@given(st.floats(1e-3, 1e12))
def test_the_time_that_one_service_writes_is_the_time_that_the_next_one_reads(seconds: float) -> None:
    with instant(), deadline(seconds):
        read = incoming_timeout(scope_of(outbound_headers().items()))
    assert read is not None
    assert seconds - 0.001 - seconds * 1e-12 <= read <= seconds * (1 + 1e-12)  # less is safe, more is not


# ---------------------------------------------------------------- the key


@given(keys)
def test_a_key_is_one_key_quoted_or_bare(key: str) -> None:
    assert incoming_key(one("Idempotency-Key", key)) == incoming_key(one("Idempotency-Key", f'"{key}"')) == key


@given(printable)
def test_any_key_can_be_quoted(key: str) -> None:
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    assert incoming_key(one("Idempotency-Key", f'"{escaped}"')) == key


@given(keys)
def test_the_key_that_one_service_writes_is_the_key_that_the_next_one_reads(key: str) -> None:
    with idempotency_key(key):
        assert incoming_key(scope_of(outbound_headers().items())) == current_key() == key


def law_no_two_headers_are_read_as_one_key(read: Callable[[Any], str | None]) -> None:
    seen: dict[str | None, str] = {}
    for text in ("pay_1", "pay_2", "pay 1", "Pay_1", "pay_1;a", '"pay,1"', '"pay\\"1"', '"pay\\\\1"', "pay_1 ."):
        key = read(one("Idempotency-Key", text))
        assert seen.setdefault(key, text) == text


def test_no_two_headers_are_read_as_one_key() -> None:
    law_no_two_headers_are_read_as_one_key(incoming_key)


def test_the_law_catches_a_reader_that_folds_keys() -> None:
    def folding(scope: Any) -> str | None:
        """The saboteur: one payment in capitals is taken for a repeat of another."""
        key = incoming_key(scope)
        return None if key is None else key.lower()

    with pytest.raises(AssertionError):
        law_no_two_headers_are_read_as_one_key(folding)


@pytest.mark.parametrize(
    "text",
    [
        *("", '""', '"', '"pay_1', 'pay_1"', '"pay_1";a=1', '"pay_1", "pay_2"', "pay_1, pay_1", "pay_1,pay_2"),
        *('"pay\\1"', '"pay\\', '"pay_1 "', '" pay_1"', "pay\x00", "pay\r\nX-Evil: 1", "pay\x7f", "pay\xe9", "k" * (MAX_KEY + 1)),
    ],
    ids=repr,
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(HeaderError):
        incoming_key(one("Idempotency-Key", text))


def test_the_older_name_of_the_header_is_as_good() -> None:
    assert incoming_key(one("X-Idempotency-Key", "pay_1")) == "pay_1"


def test_both_names_may_agree() -> None:
    assert incoming_key(scope_of([("Idempotency-Key", '"pay_1"'), ("X-Idempotency-Key", "pay_1")])) == "pay_1"


def test_two_keys_for_one_payment_are_refused() -> None:
    with pytest.raises(HeaderError, match="two keys"):
        incoming_key(scope_of([("Idempotency-Key", "pay_1"), ("X-Idempotency-Key", "pay_2")]))


# ---------------------------------------------------------------- the attempts


@given(st.integers(0, 10**6 - 1))
def test_the_attempts_before_are_counted(attempts: int) -> None:
    assert incoming_attempts(one("Previous-Attempts", str(attempts))) == attempts


@pytest.mark.parametrize("text", ["", "-1", "one", "1.0", "9" * 7])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(HeaderError):
        incoming_attempts(one("Previous-Attempts", text))


def breaks_the_bound_of_digits(patch: pytest.MonkeyPatch) -> None:
    """The saboteur: any digits are read, however many. Python itself then refuses, by another error."""
    patch.setattr("finresilience.integrations.headers.MAX_DIGITS", 10**6)


def law_a_number_of_any_length_is_read_or_refused() -> None:
    try:
        incoming_timeout(one("Request-Timeout-Ms", "9" * 10_000))
    except ValueError as error:
        assert isinstance(error, HeaderError)


def test_a_number_of_any_length_is_read_or_refused() -> None:
    kills(breaks_the_bound_of_digits, law_a_number_of_any_length_is_read_or_refused)
