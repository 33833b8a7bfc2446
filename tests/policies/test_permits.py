"""A block's permit, a person's hold, a snapshot: what each may do to a circuit, and what it may not."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

from finresilience import (
    CircuitBreaker,
    CircuitChanged,
    CircuitOpenError,
    ConfigurationError,
    LateResult,
    ProbeLost,
    ThresholdCrossed,
)
from finresilience.policies.isolation import Isolation
from finresilience.testing import CounterexampleError, explore_threads
from tests.laws.worlds import RULES, Down, Lost, No, Provider, both_loops, on, still

if TYPE_CHECKING:
    from finresilience import Event


def breaker(*, heard: list[Event] | None = None, **more: Any) -> CircuitBreaker:
    settings: dict[str, Any] = {"classify": RULES, "consecutive_failures": 2, "clock": still()} | more
    return CircuitBreaker("acme", listeners=[] if heard is None else [heard.append], **settings)


def counts(policy: CircuitBreaker) -> tuple[object, object, object]:
    told = policy.statistics()
    return told["succeeded"], told["failed"], told["slow"]


# --- a permit for one block ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "counted"),
    [(None, (1, 0, 0)), (Down(), (0, 1, 0)), (Lost(), (0, 1, 0)), (No(), (1, 0, 0)), (TypeError(), (0, 0, 0)), (SystemExit(), (0, 0, 0))],
    ids=repr,
)
def test_a_block_counts_as_its_error_is_judged_and_passes_it_on(error: BaseException | None, counted: tuple[int, int, int]) -> None:
    policy = breaker()
    if error is None:
        with policy.guard():
            pass
    else:
        with pytest.raises(type(error)) as caught, policy.guard():
            raise error
        assert caught.value is error
    assert counts(policy) == counted


def test_a_refusal_inside_a_block_is_nobodys_failure() -> None:
    policy, shut = breaker(), breaker()
    shut.force_open()
    with pytest.raises(CircuitOpenError), policy.guard():
        shut.call(lambda: "ok")
    assert counts(policy) == (0, 0, 0)


@pytest.mark.parametrize("error", [None, Down, No])
def test_a_block_that_takes_too_long_counts_as_slow(error: type[Exception] | None) -> None:
    clock = still()
    policy = breaker(clock=clock, slow_rate=1.0, slow_after=2.0)

    def work() -> None:
        with policy.guard():
            clock.advance(2.1)
            if error is not None:
                raise error

    if error is None:
        work()
    else:
        with pytest.raises(error):
            work()
    assert counts(policy)[2] == 1


def test_one_guard_is_one_block() -> None:
    guard = breaker().guard()
    with guard:
        pass
    with pytest.raises(ConfigurationError, match=r"call guard\(\) again"), guard:
        pass


def test_leaving_a_block_that_was_never_entered_changes_nothing() -> None:
    policy = breaker()
    policy.guard().__exit__(None, None, None)
    assert counts(policy) == (0, 0, 0)


@both_loops
def test_the_async_form_is_the_same(backend: str) -> None:
    policy = breaker(clock=None)

    async def world() -> None:
        async with policy.guard():
            pass
        for _ in range(2):
            with pytest.raises(Down):
                async with policy.guard():
                    raise Down
        with pytest.raises(CircuitOpenError):
            async with policy.guard():
                pytest.fail("it is open")

    on(backend, world)
    assert counts(policy) == (1, 2, 0)


# --- a person's hold -----------------------------------------------------------------------------------------------


def two_let_go_of_one_hold() -> Any:
    policy = breaker()
    other, held = policy.isolate(), policy.isolate()

    def the_other_still_holds() -> None:
        assert policy.state == "isolated"
        other.release()
        assert policy.state == "closed"

    return [held.release, held.release], the_other_still_holds


def test_two_threads_that_let_go_of_one_hold_let_go_once() -> None:
    assert explore_threads(two_let_go_of_one_hold, seeds=300, opcodes=True).distinct > 30


def test_letting_go_in_two_steps_would_be_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(self: Isolation) -> None:
        held = list(self._held)
        self._held.clear()
        for policy in held:
            policy.rejoin()

    monkeypatch.setattr(Isolation, "release", careless)
    with pytest.raises(CounterexampleError):
        explore_threads(two_let_go_of_one_hold, seeds=300, opcodes=True)


@pytest.mark.parametrize("deed", ["trip", "force_open", "disable", "metrics_only", "reset"])
def test_nothing_but_its_holder_ends_a_hold(deed: str) -> None:
    policy = breaker()
    with policy.isolate():
        getattr(policy, deed)()
        assert policy.state == "isolated"
    assert policy.state == "closed"


def test_one_rejoin_too_many_changes_nothing() -> None:
    policy = breaker()
    policy.trip()
    policy.rejoin()
    assert policy.state == "open"


@pytest.mark.parametrize("bad", [0, -1, float("nan"), True, "5"], ids=repr)
def test_tripping_for_an_unusable_time_is_refused_and_changes_nothing(bad: Any) -> None:
    policy = breaker()
    with pytest.raises(ConfigurationError, match=r"^seconds="):
        policy.trip(seconds=bad)
    assert policy.state == "closed"


# --- a snapshot ----------------------------------------------------------------------------------------------------

STATES = ("closed", "open", "half_open", "forced_open", "disabled", "metrics_only", "isolated")


def put(policy: CircuitBreaker, state: str, clock: Any) -> Any:
    if state == "half_open":
        policy.trip(seconds=1)
        clock.advance(2)
        return policy.admit(clock.monotonic())
    deed = {"open": "trip", "isolated": "isolate", "closed": "reset", "forced_open": "force_open", "disabled": "disable"}.get(state, state)
    return getattr(policy, deed)()


@pytest.mark.parametrize(
    ("state", "after"), list(zip(STATES, ("closed", "open", "open", "forced_open", "disabled", "metrics_only", "closed"), strict=True))
)
def test_each_state_comes_back_as_what_is_safe(state: str, after: str) -> None:
    clock = still()
    old, new = breaker(clock=clock), breaker(clock=clock)
    held = put(old, state, clock)
    new.restore(json.loads(json.dumps(old.snapshot())))
    assert (old.state, new.state) == (state, after)
    assert held is None or state in {"half_open", "isolated"}
    if state == "half_open":
        assert new.call(lambda: "ok") == "ok"  # ready to probe


def test_a_snapshot_tells_when_it_was_taken_and_no_time_of_this_clock() -> None:
    clock = still()
    clock.advance(5000.0)
    policy = breaker(clock=clock, open_for=30.0)
    policy.trip(seconds=30)
    told = policy.snapshot()
    assert (told["name"], told["taken"]) == ("acme", "2026-01-01T01:23:20+00:00")
    assert told["open_for"] == 30.0
    assert not [value for value in told.values() if isinstance(value, float) and value >= 5000]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4), lambda part: st.lists(part, max_size=2), max_leaves=3
)
FIELDS = ("state", "generation", "openings", "open_for", "calls", "failures", "slow", "last_failure")


@given(st.sampled_from(FIELDS), JSON)
def test_a_snapshot_is_taken_whole_or_refused_and_changes_nothing(field: str, value: Any) -> None:
    policy = breaker()
    before = policy.statistics()
    try:
        policy.restore({**policy.snapshot(), field: value})
    except ConfigurationError:
        assert policy.statistics() == before


def test_a_snapshot_may_be_any_mapping() -> None:
    old, new = breaker(), breaker()
    old.trip()
    new.restore(MappingProxyType(old.snapshot()))
    assert new.state == "open"


# --- what a breaker tells ------------------------------------------------------------------------------------------


def test_a_probe_that_never_reports_is_told_as_lost() -> None:
    heard: list[Event] = []
    clock = still()
    policy = breaker(heard=heard, clock=clock, half_open_calls=2, probe_lease=5.0)
    put(policy, "half_open", clock)
    clock.advance(5.0)
    assert policy.admit(clock.monotonic()) is not None
    assert [event for event in heard if isinstance(event, ProbeLost)] == [ProbeLost(name="acme", generation=2)]


def test_metrics_only_tells_once_a_stay_that_it_would_have_opened() -> None:
    heard: list[Event] = []
    policy = breaker(heard=heard)
    for _ in range(2):
        policy.metrics_only()
        for _ in range(5):
            policy.outcome(Provider(Down()).charge)
        policy.reset()
    told = [event for event in heard if isinstance(event, ThresholdCrossed)]
    assert [(event.name, event.reason) for event in told] == [("acme", "2 calls in a row failed")] * 2


def test_a_late_failure_is_told_as_one() -> None:
    heard: list[Event] = []
    policy = breaker(heard=heard)
    with pytest.raises(Down), policy.guard():
        policy.trip()
        raise Down
    assert [event.succeeded for event in heard if isinstance(event, LateResult)] == [False]


def test_a_change_tells_from_where_to_where_and_why() -> None:
    heard: list[Event] = []
    policy = breaker(heard=heard, open_for=10.0, chance=lambda: 0.0)
    for _ in range(2):
        policy.outcome(Provider(Down()).charge)
    assert heard == [
        CircuitChanged(
            name="acme", before="closed", after="open", generation=1, reason="2 calls in a row failed", open_for=10.0, last_failure="Down"
        )
    ]
