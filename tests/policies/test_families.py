"""One circuit for each key, and one for each name: how many are kept, who shares them, and what is refused."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

from finresilience import (
    CallRefused,
    CircuitBreaker,
    CircuitChanged,
    CircuitOpenError,
    ConfigurationError,
    Constant,
    Effect,
    Ok,
    Pipeline,
    Refused,
    Registry,
    Retry,
    Timeout,
)
from finresilience.testing import instant
from tests.laws.worlds import RULES, Down, Provider, both_loops, on, still

if TYPE_CHECKING:
    from finresilience import Event
    from finresilience.policies.per import PerKey


def family(*, at_most: int = 3, heard: list[Event] | None = None, **more: Any) -> PerKey:
    settings: dict[str, Any] = {"classify": RULES, "consecutive_failures": 2, "clock": still()} | more
    breaker = CircuitBreaker("acme", listeners=[] if heard is None else [heard.append], **settings)
    return breaker.per(lambda provider, *_, **__: provider, at_most=at_most)


# --- per key -------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=60), st.integers(1, 4))
def test_no_more_circuits_are_kept_than_it_was_told_and_a_kept_one_stays_the_same(uses: list[tuple[int, bool]], at_most: int) -> None:
    policy = family(at_most=at_most)
    for key, fails in uses:
        policy.outcome(Provider(Down() if fails else "ok").charge, key)
        assert policy.of(key) is policy.of(key)
        assert len(policy.statistics()) <= at_most


def test_the_one_not_used_for_longest_makes_room() -> None:
    policy = family(at_most=2)
    first, second = policy.of("a"), policy.of("b")
    assert policy.of("a") is first
    policy.of("c")
    assert policy.of("a") is first
    assert policy.of("b") is not second


def test_where_all_are_open_the_oldest_makes_room() -> None:
    policy = family(at_most=2)
    for key in ("a", "b"):
        policy.of(key).trip()
    policy.of("c")
    assert set(policy.statistics()) == {"b", "c"}


def test_siblings_have_the_settings_the_clock_and_the_listeners_of_their_template() -> None:
    heard: list[Event] = []
    policy = family(heard=heard, open_for=7.0)
    for _ in range(2):
        policy.outcome(Provider(Down()).charge, "a")
    changed = [event for event in heard if isinstance(event, CircuitChanged)]
    assert [event.name for event in changed] == ["acme[a]"]
    assert 7.0 <= (changed[0].open_for or 0.0) <= 7.7


def test_a_call_refused_by_one_of_them_is_told_to_the_listeners_of_all() -> None:
    heard: list[Event] = []
    policy = family(heard=heard)
    policy.of("a").force_open()
    assert isinstance(policy.outcome(lambda _: "ok", "a"), Refused)
    with pytest.raises(CircuitOpenError, match=r"acme\[a\] was not called"):
        policy(lambda _: "ok")("a")
    assert [event for event in heard if isinstance(event, CallRefused)] == [
        CallRefused(name="acme", reason="CircuitOpenError", reference=None)
    ] * 2


def test_it_follows_the_ruling_clock_where_its_template_does() -> None:
    policy = CircuitBreaker("acme", listeners=[]).per(str, at_most=2)
    with instant() as clock:
        policy.of("a").trip(seconds=10)
        clock.advance(11)
        assert policy.of("a").call(lambda: "ok") == "ok"


@both_loops
def test_a_pipeline_chooses_the_circuit_by_the_calls_arguments(backend: str) -> None:
    breakers = family(clock=None)
    retry = Retry(attempts=2, backoff=Constant(0))
    pipeline = Pipeline("acme", breakers, retry, Timeout(2.0), classify=RULES, effect=Effect.IDEMPOTENT_BY_NATURE, listeners=[])

    async def world() -> list[type]:
        down, up = await pipeline.aoutcome(Provider(Down(), Down()).acharge, "a"), await pipeline.aoutcome(Provider().acharge, "b")
        again = await pipeline.aoutcome(Provider().acharge, "a")
        decorated = await pipeline(Provider().acharge)("b")
        assert decorated == "ok"
        return [type(up), type(again), type(down)]

    assert on(backend, world)[:2] == [Ok, Refused]
    assert (breakers.of("a").state, breakers.of("b").state) == ("open", "closed")


def test_a_name_is_made_of_what_can_be_printed_and_is_never_too_long() -> None:
    policy = family(at_most=9)
    assert policy.of("a\nb").name == "acme[a?b]"
    assert policy.of(("eu", 5)).name == "acme[('eu', 5)]"
    assert len(CircuitBreaker("x" * 200, listeners=[]).per(str, at_most=1).of("y" * 500).name) == 192


@pytest.mark.parametrize("key", [[], {}, ("a", [])], ids=repr)
def test_a_key_that_cannot_be_hashed_is_refused_by_name_and_nothing_is_sent(key: Any) -> None:
    provider = Provider()
    with pytest.raises(ConfigurationError, match=r"^key="):
        family().outcome(provider.charge, key)
    assert provider.attempts == 0


@pytest.mark.parametrize("bad", [0, -1, True, 1.5, None, "3"], ids=repr)
def test_an_unusable_bound_is_refused_by_name(bad: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^at_most="):
        family(at_most=bad)
    with pytest.raises(ConfigurationError, match=r"^at_most="):
        Registry(at_most=bad)


def test_a_key_that_is_no_function_is_refused_by_name() -> None:
    key: Any = "provider"
    with pytest.raises(ConfigurationError, match=r"^key="):
        CircuitBreaker("acme", listeners=[]).per(key, at_most=3)


# --- a registry ----------------------------------------------------------------------------------------------------


def test_a_registry_makes_each_name_once_with_the_settings_it_was_given() -> None:
    registry = Registry(clock=still(), open_for=5.0, listeners=[])
    assert registry["a"] is registry["a"]
    assert registry["a"] is not registry["b"]
    registry["a"].trip()
    assert registry["a"].statistics()["retry_after"] == pytest.approx(5.0, rel=0.1)
    assert [one.name for one in registry] == ["a", "b"] == list(registry.statistics())


def test_a_registry_may_be_told_how_to_make_one() -> None:
    registry = Registry(lambda name: CircuitBreaker(f"{name}!", listeners=[]))
    assert registry["a"].name == "a!"


def test_whoever_was_first_made_it() -> None:
    made: list[CircuitBreaker] = []
    registry: Registry

    def make(name: str) -> CircuitBreaker:
        if not made:  # somebody else asks for the same name while it is being made
            made.append(CircuitBreaker("first", listeners=[]))
            made.append(registry[name])
        return CircuitBreaker("second", listeners=[])

    registry = Registry(make)
    assert registry["a"] is made[1]
    assert len(list(registry)) == 1


@pytest.mark.parametrize("settings", [{"failure_rate": 2}, {"open_for": -1}, {"clock": still(), "half_open_calls": 0}], ids=str)
def test_bad_settings_are_refused_when_the_registry_is_made(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="cannot work"):
        Registry(**settings)


def test_a_registry_refuses_what_it_could_not_use() -> None:
    no_function: Any = "acme"
    with pytest.raises(ConfigurationError, match=r"^make="):
        Registry(no_function)
    with pytest.raises(ConfigurationError, match="make= and failure_rate= exclude each other"):
        Registry(CircuitBreaker, failure_rate=0.5)
    no_breaker: Any = lambda name: name  # noqa: E731 - the whole of it
    with pytest.raises(ConfigurationError, match=r"^make="):
        Registry(no_breaker)["a"]
