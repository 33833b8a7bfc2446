"""A circuit out of a file that stayed open for years, and a registry whose second circuit had lost its rules."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

from finresilience import CircuitBreaker, CircuitOpenError, CircuitState, ConfigurationError, ConsecutiveFailures, OpenFor, Registry
from finresilience.cores.breaker import BreakerCore
from finresilience.testing import explore_threads
from tests.laws.sabotage import each_kill, kills
from tests.laws.worlds import RULES, Down, Provider, still

if TYPE_CHECKING:
    from collections.abc import Callable

Patch = pytest.MonkeyPatch
CAP = 40.0


def breaker(**more: Any) -> CircuitBreaker:
    settings: dict[str, Any] = {"open_for": OpenFor(10.0, cap=CAP, jitter=0.0), "listeners": []} | more
    return CircuitBreaker("acme", classify=RULES, consecutive_failures=1, **settings)


# --- a snapshot --------------------------------------------------------------------------------------------------------


def law_no_file_keeps_a_circuit_open_beyond_its_cap(told: float, state: str) -> None:
    clock = still()
    policy = breaker(clock=clock)
    policy.restore({**policy.snapshot(), "state": state, "open_for": told, "openings": 1})
    assert policy.state == "open"
    assert policy.statistics()["retry_after"] == pytest.approx(min(told, CAP))
    clock.advance(CAP + 1)
    assert policy.call(lambda: "ok") == "ok"


@given(st.floats(0, 1e300), st.sampled_from(["open", "half_open"]))
def test_no_file_keeps_a_circuit_open_beyond_its_cap(told: float, state: str) -> None:
    """A snapshot with a wait of years in it was taken at its word, and nobody was let through again."""
    law_no_file_keeps_a_circuit_open_beyond_its_cap(told, state)


def a_file_is_taken_at_its_word(patch: Patch) -> None:
    load = BreakerCore.load

    def credulous(self: BreakerCore, now: float, **saved: Any) -> None:
        if saved["open_for"] == CAP:
            saved["open_for"] = 1e9
        load(self, now, **saved)

    patch.setattr(BreakerCore, "load", credulous)


def every_restored_circuit_stays_open_as_long_as_it_may(patch: Patch) -> None:
    load = BreakerCore.load

    def timid(self: BreakerCore, now: float, **saved: Any) -> None:
        saved["open_for"] = CAP
        load(self, now, **saved)

    patch.setattr(BreakerCore, "load", timid)


def test_what_a_person_holds_open_comes_back_held_however_long() -> None:
    clock = still()
    old, new = breaker(clock=clock), breaker(clock=clock)
    old.force_open()
    new.restore(json.loads(json.dumps(old.snapshot())))
    clock.advance(1e6)
    with pytest.raises(CircuitOpenError):
        new.call(lambda: "ok")


def nobody_holds_anything(patch: Patch) -> None:
    load = BreakerCore.load

    def forgetful(self: BreakerCore, now: float, **saved: Any) -> None:
        saved["state"] = CircuitState.CLOSED
        load(self, now, **saved)

    patch.setattr(BreakerCore, "load", forgetful)


# --- a registry --------------------------------------------------------------------------------------------------------


def test_every_circuit_of_a_registry_has_its_rules_however_they_were_given() -> None:
    """Rules and listeners from a generator were all taken by the first circuit, and the others went by other rules, unheard."""
    heard: list[object] = []
    rules, listeners = iter([ConsecutiveFailures(1)]), iter([heard.append])
    registry = Registry(rules=rules, listeners=listeners, classify=RULES, clock=still())
    for name in ("acme", "globex"):
        registry[name].outcome(Provider(Down()).charge)
        assert registry[name].state == "open"
    assert len(heard) == 2


def each_circuit_is_told_anew(patch: Patch) -> None:
    make = Registry.__init__

    def init(self: Registry, **defaults: Any) -> None:
        make(self, lambda name: CircuitBreaker(name, **defaults))
        CircuitBreaker("registry", **defaults)

    patch.setattr(Registry, "__init__", init)


def test_a_registry_that_is_full_makes_nothing_more() -> None:
    """What `make` did beside, such as to register a metric, it did for every name of the traffic, and kept none of it."""
    made: list[str] = []

    def make(name: str) -> CircuitBreaker:
        made.append(name)
        return CircuitBreaker(name, listeners=[])

    registry = Registry(make, at_most=1)
    first = registry["acme"]
    for name in ("globex", "initech"):
        with pytest.raises(ConfigurationError, match="names must not come from traffic"):
            registry[name]
    assert registry["acme"] is first
    assert made == ["acme"]


def room_is_looked_for_afterwards(patch: Patch) -> None:
    getitem = Registry.__getitem__

    def late(self: Registry, name: str) -> CircuitBreaker:
        if name not in self._kept:
            self._make(name)
        return getitem(self, name)

    patch.setattr(Registry, "__getitem__", late)


def threads_that_ask_for_the_last_place() -> tuple[list[Callable[[], None]], Callable[[], None]]:
    registry, got = Registry(at_most=1, listeners=[], clock=still()), list[CircuitBreaker]()

    def asker() -> None:
        got.append(registry["acme"])

    def everybody_has_it() -> None:
        assert len(got) == 3
        assert len(set(got)) == 1

    return [asker] * 3, everybody_has_it


def test_threads_that_ask_for_the_last_name_at_once_all_get_it() -> None:
    explore_threads(threads_that_ask_for_the_last_place, seeds=60)


def a_full_registry_is_not_looked_into(patch: Patch) -> None:
    def demand_room(self: Registry, name: str) -> None:
        if len(self._kept) >= self._at_most:
            raise ConfigurationError(name)

    patch.setattr(Registry, "_demand_room", demand_room)


@each_kill(
    (a_file_is_taken_at_its_word, law_no_file_keeps_a_circuit_open_beyond_its_cap, 1e9, "open"),
    (every_restored_circuit_stays_open_as_long_as_it_may, law_no_file_keeps_a_circuit_open_beyond_its_cap, 1.0, "open"),
    (nobody_holds_anything, test_what_a_person_holds_open_comes_back_held_however_long),
    (each_circuit_is_told_anew, test_every_circuit_of_a_registry_has_its_rules_however_they_were_given),
    (room_is_looked_for_afterwards, test_a_registry_that_is_full_makes_nothing_more),
    (a_full_registry_is_not_looked_into, test_threads_that_ask_for_the_last_name_at_once_all_get_it),
)
def test_its_saboteur_is_found_out(row: tuple[Any, ...]) -> None:
    kills(*row)
