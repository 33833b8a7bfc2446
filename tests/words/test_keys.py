"""One key for one intent: the same on every attempt, another at every provider and step, and never shown in an error."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from finresilience import (
    ConfigurationError,
    Constant,
    Effect,
    MissingKeyError,
    Pipeline,
    Retry,
    current_attempt,
    current_key,
    current_reference,
    deadline,
    derive_key,
    idempotency_key,
    outbound_headers,
)
from finresilience.context import MAX_KEY, checked_key
from tests.laws.worlds import RULES, Down

bases = st.text(max_size=300) | st.text("ab:%3A", max_size=6)
steps = st.sampled_from(["acme.charge", "acme.refund", "globex.charge", "x" * 200]) | st.text("ab:%3A", min_size=1, max_size=6)


def itself(payment: str) -> str:
    return payment


def told_key(_: str) -> str | None:
    return current_key()


def pipeline(name: str, **more: Any) -> Pipeline:
    settings: dict[str, Any] = {"classify": RULES, "effect": Effect.IDEMPOTENT, "listeners": []}
    return Pipeline(name, Retry(attempts=3, backoff=Constant(0)), **settings | more)


# ---------------------------------------------------------------- deriving


def law_one_pair_one_key(derive: Any, base: str, step: str, other: str, other_step: str) -> None:
    assert derive(base, step) == derive(base, step)
    if step != other_step:
        assert derive(base, step) != derive(base, other_step)
    if base != other:
        assert derive(base, step) != derive(other, step)
    if (base, step) != (other, other_step):
        assert derive(base, step) != derive(other, other_step)


@given(bases, steps, bases, steps)
def test_another_step_or_another_payment_is_another_key(base: str, step: str, other: str, other_step: str) -> None:
    law_one_pair_one_key(derive_key, base, step, other, other_step)


def cut(base: str, step: str) -> str:
    """The saboteur: what is too long is cut."""
    return f"{base}:{step}"[:MAX_KEY]


def stepless(base: str, _: str) -> str:
    """Another: a charge and its refund have one key."""
    return base


def joined(base: str, step: str) -> str:
    """Another: where the intent ends and the step begins cannot be seen."""
    return f"{base}:{step}"


@pytest.mark.parametrize("saboteur", [cut, stepless])
def test_the_law_catches_keys_that_collide(saboteur: Any) -> None:
    with pytest.raises(AssertionError):
        law_one_pair_one_key(saboteur, "x" * 300, "acme.charge", "x" * 300 + "y", "acme.refund")


def test_a_step_with_a_colon_takes_no_other_steps_key() -> None:
    with pytest.raises(AssertionError):
        law_one_pair_one_key(joined, "a:b", "c", "a", "b:c")
    law_one_pair_one_key(derive_key, "a:b", "c", "a", "b:c")
    law_one_pair_one_key(derive_key, "a", "b:c", "a", "b%3Ac")


@given(st.text(), st.text())
def test_a_key_is_one_that_a_header_and_a_provider_can_take(base: str, step: str) -> None:
    key = derive_key(base, step)
    assert 0 < len(key) <= MAX_KEY
    assert key.isascii()
    assert key.isprintable()


def test_a_key_is_readable_where_it_fits_and_a_digest_where_it_does_not() -> None:
    assert derive_key("pay_1", "acme.charge") == "pay_1:acme.charge"
    assert len(derive_key("x" * (MAX_KEY - 2), "a")) == MAX_KEY
    for base in ("x" * (MAX_KEY - 1), "zahlung-für-müller", "pay\n1", "pay_\ud800"):
        assert derive_key(base, "a").startswith("fr-")
        assert len(derive_key(base, "a")) == 3 + 64


def test_a_digest_is_the_same_in_every_release() -> None:
    """It names a payment at a provider: were it to change, the next attempt would be a new payment."""
    assert derive_key("é", "acme") == "fr-b9a6bfb2670a7dbdf720c7fdb1323c935e767963228c0e145c9494bd827d8021"


@pytest.mark.parametrize("key", ["", "   ", "\n", None, 1, b"pay_1", True], ids=repr)
def test_what_cannot_be_a_key_is_refused_and_not_shown(key: Any) -> None:
    with pytest.raises(ConfigurationError, match="an idempotency key must be a non-empty str"):
        checked_key(key)
    with pytest.raises(ConfigurationError, match="take it from your own record"):
        idempotency_key(key)


def test_a_refused_key_is_not_shown() -> None:
    with pytest.raises(ConfigurationError) as refused:
        checked_key(["sk_live_1"])
    assert "sk_live" not in str(refused.value)


# ---------------------------------------------------------------- in a call


def test_the_key_is_the_same_on_every_attempt() -> None:
    told: list[object] = []

    def charge() -> str:
        told.append((current_attempt(), current_key(), outbound_headers().get("Previous-Attempts")))
        if len(told) < 3:
            raise Down
        return "paid"

    with idempotency_key("pay_1"):
        pipeline("acme.charge").call(charge)
    assert told == [(1, "pay_1:acme.charge", None), (2, "pay_1:acme.charge", "1"), (3, "pay_1:acme.charge", "2")]


def test_the_key_is_another_at_every_provider_and_step() -> None:
    with idempotency_key("pay_1"):
        keys = [pipeline(name).call(current_key) for name in ("acme.charge", "acme.refund", "globex.charge")]
    assert keys == ["pay_1:acme.charge", "pay_1:acme.refund", "pay_1:globex.charge"]


def test_a_call_inside_a_call_derives_from_the_same_intent_and_not_from_its_key() -> None:
    hold = pipeline("ledger.hold")

    def charge(_: str) -> tuple[str | None, ...]:
        return current_key(), hold.call(current_key), current_key()

    acme = pipeline("acme.charge", key=itself)
    assert acme.call(charge, "pay_1") == ("pay_1:acme.charge", "pay_1:ledger.hold", "pay_1:acme.charge")


def test_a_pipelines_own_key_comes_before_the_one_around_it() -> None:
    with idempotency_key("order_9"):
        assert pipeline("acme", key=itself).call(told_key, "pay_1") == "pay_1:acme"


def test_an_inner_key_is_a_new_intent_until_its_block_ends() -> None:
    with idempotency_key("pay_1"):
        with idempotency_key("pay_2"):
            assert (current_key(), pipeline("acme").call(current_key)) == ("pay_2", "pay_2:acme")
        assert (current_key(), pipeline("acme").call(current_key)) == ("pay_1", "pay_1:acme")


def test_a_block_inside_a_call_keeps_its_key_its_attempt_and_its_reference() -> None:
    def charge(_: str) -> object:
        with deadline(5):
            return current_key(), current_attempt(), current_reference()

    acme = pipeline("acme", key=itself, reference=itself)
    assert acme.call(charge, "pay_1") == ("pay_1:acme", 1, "pay_1")


def test_a_call_inside_inherits_the_reference() -> None:
    hold = pipeline("ledger.hold")

    def charge(_: str) -> str | None:
        return hold.call(current_reference)

    assert pipeline("acme", key=itself, reference=itself).call(charge, "pay_1") == "pay_1"


def test_an_idempotent_call_without_a_key_is_not_sent() -> None:
    sent: list[int] = []
    with pytest.raises(MissingKeyError, match="Nothing was sent, so no money moved"):
        pipeline("acme").call(sent.append, 1)
    assert sent == []
