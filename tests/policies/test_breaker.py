"""The breaker's shell: what a person may do with it, what it tells, and that every world may use it at once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Thread
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from finresilience import CircuitBreaker, CircuitChanged, CircuitOpenError, ConfigurationError, Event, LateResult, Ok, Refused, Registry
from tests.laws.worlds import RULES, Down, Provider, still


def breaker(**more: Any) -> CircuitBreaker:
    settings = {"classify": RULES, "consecutive_failures": 2, "clock": still(), "listeners": []} | more
    return CircuitBreaker("acme", **settings)


@pytest.mark.parametrize(
    ("deed", "state", "passes"),
    [
        ("trip", "open", False),
        ("force_open", "forced_open", False),
        ("disable", "disabled", True),
        ("metrics_only", "metrics_only", True),
        ("isolate", "isolated", False),
    ],
)
def test_a_person_may_put_it_into_any_state_and_reset_it(deed: str, state: str, passes: bool) -> None:
    policy = breaker()
    held = getattr(policy, deed)()
    assert policy.state == state
    assert isinstance(policy.outcome(lambda: "ok"), Ok if passes else Refused)
    policy.reset()
    assert policy.state == ("isolated" if held else "closed")
    if held:
        held.release()
    assert policy.state == "closed"


@pytest.mark.parametrize("deed", ["disable", "metrics_only"])
def test_a_disabled_circuit_never_opens(deed: str) -> None:
    policy = breaker()
    getattr(policy, deed)()
    for _ in range(5):
        policy.outcome(Provider(Down()).charge)
    assert isinstance(policy.outcome(lambda: "ok"), Ok)


def test_it_is_isolated_until_the_last_holder_lets_go_and_letting_go_twice_is_once() -> None:
    policy = breaker()
    first, second = policy.isolate(), policy.isolate()
    first.release()
    first.release()
    assert policy.state == "isolated"
    with second:
        pass
    assert policy.state == "closed"


def test_a_snapshot_survives_json_and_an_open_circuit_goes_on_waiting() -> None:
    old, clock = breaker(open_for=30.0), still()
    for _ in range(2):
        old.outcome(Provider(Down()).charge)
    new = breaker(clock=clock, open_for=30.0)
    new.restore(json.loads(json.dumps(old.snapshot())))
    assert new.state == "open"
    assert new.statistics()["generation"] >= old.statistics()["generation"]  # type: ignore[operator]
    with pytest.raises(CircuitOpenError):
        new.call(lambda: "ok")
    clock.advance(60)
    assert new.call(lambda: "ok") == "ok"


def test_a_closed_circuit_keeps_its_counts_over_a_restore() -> None:
    old = breaker()
    old.outcome(Provider(Down()).charge)
    old.outcome(lambda: "ok")
    new = breaker()
    new.restore(json.loads(json.dumps(old.snapshot())))
    assert new.statistics()["window"] == old.statistics()["window"] == {"calls": 2, "failures": 1, "slow": 0}


@pytest.mark.parametrize(
    "spoilt",
    [
        {"state": "ajar"},
        {"state": None},
        {"state": ["open"]},
        {"calls": -1},
        {"calls": True},
        {"calls": 1, "failures": 2},
        {"calls": 10**9},
        {"slow": 1.5},
        {"generation": "7"},
        {"openings": None},
        {"open_for": float("nan")},
        {"open_for": -1.0},
    ],
    ids=str,
)
def test_what_is_no_snapshot_is_refused_and_changes_nothing(spoilt: dict[str, Any]) -> None:
    policy = breaker()
    before = policy.statistics()
    with pytest.raises(ConfigurationError, match="snapshot"):
        policy.restore({**policy.snapshot(), **spoilt})
    assert policy.statistics() == before


@pytest.mark.parametrize("thing", [{}, [], "open", None], ids=["empty", "list", "text", "None"])
def test_another_thing_than_a_snapshot_is_refused_by_name(thing: Any) -> None:
    with pytest.raises(ConfigurationError, match="snapshot"):
        breaker().restore(thing)


def test_a_family_keeps_no_more_circuits_than_it_was_told_and_open_ones_longest() -> None:
    family = breaker().per(lambda provider: provider, at_most=3)
    family.of("dead").trip()
    for provider in range(50):
        family.outcome(lambda _: "ok", str(provider))
    assert len(family.statistics()) == 3
    assert family.of("dead").state == "open"
    assert family.of("49") is family.of("49")


def test_a_circuit_of_a_family_does_not_open_its_siblings() -> None:
    family = breaker().per(lambda provider: provider, at_most=3)
    for _ in range(2):
        family.outcome(Provider(Down()).charge, "acme")
    assert isinstance(family.outcome(lambda _: "ok", "acme"), Refused)
    assert isinstance(family.outcome(lambda _: "ok", "globex"), Ok)


def test_a_registry_gives_one_object_to_sixteen_threads() -> None:
    registry, start = Registry(listeners=[]), Barrier(16)

    def ask(_: int) -> CircuitBreaker:
        start.wait()
        return registry["acme"]

    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(ask, range(16)))) == 1


def test_a_registry_refuses_one_name_too_many() -> None:
    registry = Registry(at_most=1, listeners=[])
    assert registry["a"] is registry["a"]
    with pytest.raises(ConfigurationError, match="must not come from traffic"):
        registry["b"]
    assert [one.name for one in registry] == ["a"] == list(registry.statistics())


def test_a_listener_that_raises_loses_nothing_and_is_counted() -> None:
    heard: list[Event] = []

    def broken(event: Event) -> None:
        raise RuntimeError

    policy = breaker(listeners=[broken, heard.append])
    for _ in range(2):
        with pytest.raises(Down):
            policy.call(Provider(Down()).charge)
    assert [(event.before, event.after) for event in heard if isinstance(event, CircuitChanged)] == [("closed", "open")]
    assert policy.statistics()["listener_failures"] == len(heard)


def test_a_result_that_comes_after_the_circuit_moved_on_is_told_and_changes_nothing() -> None:
    heard: list[Event] = []
    policy = breaker(listeners=[heard.append])
    with policy.guard():
        policy.trip()
    assert policy.state == "open"
    assert [event.succeeded for event in heard if isinstance(event, LateResult)] == [True]
    assert policy.statistics()["late"] == 1


def test_threads_asyncio_and_trio_may_use_one_breaker_at_once() -> None:
    policy, each, outcomes = breaker(consecutive_failures=1_000_000, clock=None), 500, []

    def line(number: int) -> str:
        if number % 5 == 0:
            raise Down
        return "ok"

    def by_thread() -> None:
        outcomes.extend(policy.outcome(line, number) for number in range(each))

    def by_loop(backend: str) -> None:
        async def work(number: int) -> str:
            await anyio.lowlevel.checkpoint()
            return line(number)

        async def main() -> None:
            outcomes.extend([await policy.aoutcome(work, number) for number in range(each)])

        anyio.run(main, backend=backend)

    threads = [Thread(target=by_thread), Thread(target=by_thread), *(Thread(target=by_loop, args=(name,)) for name in ("asyncio", "trio"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(outcomes) == 4 * each
    assert sum(isinstance(outcome, Ok) for outcome in outcomes) == 4 * each * 4 // 5
    stats = policy.statistics()
    assert (stats["failed"], stats["refused"], policy.state) == (4 * each // 5, 0, "closed")


def test_restoring_does_not_end_an_isolation() -> None:
    breaker = CircuitBreaker("acme", clock=still(), listeners=[])
    saved = breaker.snapshot()
    held = breaker.isolate()
    breaker.restore(saved)
    assert breaker.state == "isolated"
    held.release()
    assert breaker.state == "closed"
