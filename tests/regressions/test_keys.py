"""A key that goes out as it is: a line break in it wrote a header of its own, and spaces round it made two payments one."""

from __future__ import annotations

from string import printable
from typing import Any

import pytest
from hypothesis import given, strategies as st

from finresilience import Effect, context as contexts, current_key, deadline, derive_key, idempotency_key, outbound_headers
from finresilience.context import MAX_KEY
from tests.laws.sabotage import each_kill, kills
from tests.regressions.sending import retrying

Patch = pytest.MonkeyPatch
EVIL = "pay_1\r\nX-Amount: 1"
anything = st.text(min_size=1, max_size=300) | st.text(printable, min_size=1, max_size=12)
keys = anything.filter(lambda key: bool(key.strip()))
as_it_is = st.text("abc_1 \t\r\n", min_size=1, max_size=4).filter(lambda key: bool(key.strip()))


def law_a_key_is_one_header(key: str) -> None:
    with idempotency_key(key):
        headers, told = outbound_headers(), current_key()
    value = headers["Idempotency-Key"]
    assert value == told
    assert value.isascii()
    assert value.isprintable()
    assert value == value.strip()
    assert 0 < len(value) <= MAX_KEY


@given(keys)
def test_an_explicit_key_is_one_header_whatever_is_in_it(key: str) -> None:
    law_a_key_is_one_header(key)


def law_two_keys_are_two_headers(key: str, other: str) -> None:
    sent: list[str] = []
    for one in (key, other):
        with idempotency_key(one):
            sent.append(outbound_headers()["Idempotency-Key"].strip(" \t"))  # as everybody on the way may do (RFC 9110, 5.5)
    assert (sent[0] == sent[1]) is (key == other)


@given(keys | as_it_is, keys | as_it_is)
def test_two_keys_are_two_headers(key: str, other: str) -> None:
    law_two_keys_are_two_headers(key, other)


def law_two_payments_are_two_headers(key: str, other: str) -> None:
    sent: list[str] = []

    def itself(payment: str) -> str:
        return payment

    def charge(_: str) -> None:
        sent.append(outbound_headers()["Idempotency-Key"].strip(" \t"))

    acme = retrying("acme", effect=Effect.IDEMPOTENT, key=itself)
    for payment in (key, other):
        acme.call(charge, payment)
    assert (sent[0] == sent[1]) is (key == other)


@given(keys | as_it_is, keys | as_it_is)
def test_two_payments_through_a_pipeline_are_two_headers(key: str, other: str) -> None:
    law_two_payments_are_two_headers(key, other)


def a_key_goes_out_as_it_is(patch: Patch) -> None:
    patch.setattr(contexts, "_sendable", str)


def what_a_header_cannot_take_is_left_out(patch: Patch) -> None:
    def washed(key: str) -> str:
        return "".join(letter for letter in key if letter.isascii() and letter.isprintable())[:MAX_KEY]

    patch.setattr(contexts, "_sendable", washed)


def test_an_explicit_key_that_can_go_out_is_the_one_that_was_given() -> None:
    with idempotency_key("pay_1"):
        assert outbound_headers() == {"Idempotency-Key": "pay_1"}


def test_what_is_derived_from_a_key_does_not_depend_on_how_it_went_out() -> None:
    acme = retrying("acme", effect=Effect.IDEMPOTENT)
    with idempotency_key(EVIL):
        assert acme.call(current_key) == derive_key(EVIL, "acme")


def law_the_time_left_can_be_told(seconds: float) -> None:
    with deadline(seconds):
        told = outbound_headers()["Request-Timeout-Ms"]
    assert told.isdigit()
    assert 0 < int(told) < 2**63


def test_a_deadline_that_is_no_deadline_can_be_told() -> None:
    """A deadline of 1e306 s has no number of milliseconds that a float could hold, and the call raised before it was sent."""
    law_the_time_left_can_be_told(1e306)


def the_time_left_is_told_as_it_is(patch: Patch) -> None:
    patch.setattr(contexts, "_MOST_MS", 1e300)


@each_kill(
    (a_key_goes_out_as_it_is, law_a_key_is_one_header, EVIL),
    (a_key_goes_out_as_it_is, law_a_key_is_one_header, "pay_1\n"),
    (a_key_goes_out_as_it_is, law_a_key_is_one_header, "zahlung-für-müller"),
    (a_key_goes_out_as_it_is, law_two_keys_are_two_headers, "pay_1", "pay_1 "),
    (a_key_goes_out_as_it_is, law_two_payments_are_two_headers, "pay_1", " pay_1"),
    (what_a_header_cannot_take_is_left_out, law_two_keys_are_two_headers, "pay_1", "pay_1\n"),
    (what_a_header_cannot_take_is_left_out, law_two_payments_are_two_headers, "pay_1", "pay\n_1"),
    (the_time_left_is_told_as_it_is, law_the_time_left_can_be_told, 1e306),
)
def test_its_saboteur_is_found_out(row: tuple[Any, ...]) -> None:
    kills(*row)
