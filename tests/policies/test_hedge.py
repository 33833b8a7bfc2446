"""A hedge sends a second arm when the first takes long, and takes the first answer; the rest is stopped before the call returns."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from finresilience import (
    CircuitBreaker,
    CircuitOpenError,
    ConfigurationError,
    Constant,
    Declined,
    DecorationError,
    Effect,
    Event,
    Failed,
    Ok,
    OutcomeUnknown,
    Refused,
    Retry,
    Timeout,
    Unknown,
    idempotency_key,
)
from finresilience.events import CallHedged
from finresilience.policies.hedge import Hedge
from finresilience.testing import instant
from tests.laws.worlds import RULES, Down, Lost, No, both_loops, on
from tests.policies.racing import BY_NATURE, IDEMPOTENT, Arms, ended, hedged

# ---------------------------------------------------------------- who wins


@both_loops
def test_a_fast_call_has_one_arm(backend: str) -> None:
    outcome, at = ended(backend, hedged(), arms := Arms((2.9, "first")))
    assert (outcome.unwrap(), at, arms.began) == ("first", 2.9, [0.0])


@both_loops
def test_a_slow_call_gets_a_second_arm_and_the_first_answer_wins(backend: str) -> None:
    outcome, at = ended(backend, hedged(), arms := Arms((9.0, "first"), (1.0, "second")))
    assert (outcome.unwrap(), at, arms.began) == ("second", 4.0, [0.0, 3.0])
    assert arms.ends == {1: "cancelled", 2: "ended"}


@both_loops
def test_the_first_arm_may_still_win(backend: str) -> None:
    outcome, at = ended(backend, hedged(), arms := Arms((4.0, "first"), (9.0, "second")))
    assert (outcome.unwrap(), at, arms.ends) == ("first", 4.0, {1: "ended", 2: "cancelled"})


@both_loops
def test_as_many_arms_follow_as_were_allowed_and_no_more(backend: str) -> None:
    arms = Arms((99.0, "a"), (99.0, "b"), (99.0, "c"), (99.0, "d"))
    _, at = ended(backend, hedged(Hedge(3.0, extra=2)), arms)
    assert (arms.began, at) == ([0.0, 3.0, 6.0], 99.0)


@both_loops
def test_after_nothing_all_arms_start_together(backend: str) -> None:
    outcome, at = ended(backend, hedged(Hedge(0.0, extra=2)), arms := Arms((3.0, "a"), (1.0, "b"), (2.0, "c")))
    assert (outcome.unwrap(), at, arms.began) == ("b", 1.0, [0.0, 0.0, 0.0])


@both_loops
def test_a_loser_is_awaited_until_it_has_cleaned_up(backend: str) -> None:
    outcome, at = ended(backend, hedged(), Arms((9.0, "first"), (1.0, "second"), cleanup=5.0))
    assert (outcome.unwrap(), at) == ("second", 9.0)


@both_loops
@pytest.mark.parametrize("error", [Down, Lost])
def test_an_arm_that_fails_does_not_end_the_call_while_another_runs(backend: str, error: type[Exception]) -> None:
    outcome, at = ended(backend, hedged(**IDEMPOTENT), Arms((5.0, "first"), (1.0, error())))
    assert (outcome.unwrap(), at) == ("first", 5.0)


@both_loops
@pytest.mark.parametrize("error", [Down, Lost])
def test_an_arm_that_fails_lets_the_next_one_start_at_once(backend: str, error: type[Exception]) -> None:
    outcome, at = ended(backend, hedged(**IDEMPOTENT), arms := Arms((1.0, error()), (1.0, "second")))
    assert (outcome.unwrap(), at, arms.began) == ("second", 2.0, [0.0, 1.0])


@both_loops
def test_the_wait_for_the_next_arm_counts_from_the_last_one(backend: str) -> None:
    arms = Arms((1.0, Down()), (9.0, "second"), (1.0, "third"))
    outcome, at = ended(backend, hedged(Hedge(3.0, extra=2)), arms)
    assert (outcome.unwrap(), at, arms.began) == ("third", 5.0, [0.0, 1.0, 4.0])


@both_loops
@pytest.mark.parametrize("ways", [{"effect": Effect.READ}, IDEMPOTENT], ids=["read", "keyed"])
def test_a_no_that_speaks_for_every_arm_wins(backend: str, ways: dict[str, Any]) -> None:
    outcome, at = ended(backend, hedged(**ways), arms := Arms((9.0, "first"), (1.0, No())))
    assert isinstance(outcome, Declined)
    assert (at, arms.ends) == (4.0, {1: "cancelled", 2: "ended"})


@both_loops
def test_a_no_without_a_key_waits_for_the_arm_that_may_have_been_applied(backend: str) -> None:
    outcome, at = ended(backend, hedged(**BY_NATURE), Arms((9.0, "first"), (1.0, No())))
    assert (outcome.unwrap(), at) == ("first", 9.0)
    outcome, at = ended(backend, hedged(**BY_NATURE), Arms((9.0, Lost()), (1.0, No())))
    assert (type(outcome), at) == (Unknown, 9.0)


@both_loops
def test_a_key_that_the_pipeline_makes_speaks_for_every_arm_and_one_that_is_only_around_does_not(backend: str) -> None:
    async def world() -> None:
        with idempotency_key("pay_1"):
            assert await hedged(**BY_NATURE).acall(Arms((9.0, "first"), (1.0, No())).read) == "first"
        outcome = await hedged(key=lambda: "pay_1", **BY_NATURE).aoutcome(Arms((9.0, "first"), (1.0, No())).read)
        assert isinstance(outcome, Declined)

    on(backend, world)


class Gate(No):
    status_code = 401


@both_loops
def test_a_gates_no_does_not_speak_for_an_arm_that_had_passed_it(backend: str) -> None:
    outcome, _ = ended(backend, hedged(**IDEMPOTENT), Arms((9.0, "first"), (1.0, Gate())))
    assert outcome.unwrap() == "first"


@both_loops
@pytest.mark.parametrize(
    ("ends", "wanted"),
    [
        ((Down(), Lost()), Unknown),
        ((Lost(), Down()), Unknown),
        ((Down(), Down()), Failed),
        ((Lost(), No()), Declined),
    ],
    ids=["unknown at last", "unknown at first", "failed", "a no under the key"],
)
def test_the_end_is_the_join_over_the_arms(backend: str, ends: tuple[Exception, Exception], wanted: type[object]) -> None:
    outcome, _ = ended(backend, hedged(**IDEMPOTENT), Arms((1.0, ends[0]), (1.0, ends[1])))
    assert type(outcome) is wanted


@both_loops
def test_a_refused_arm_is_not_tried_again(backend: str) -> None:
    breaker = CircuitBreaker("acme", listeners=[])
    breaker.force_open()
    outcome, _ = ended(backend, hedged(None, breaker), arms := Arms())
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, CircuitOpenError)
    assert arms.began == []


@both_loops
def test_a_fault_of_our_own_is_not_sent_twice(backend: str) -> None:
    outcome, _ = ended(backend, hedged(**IDEMPOTENT), arms := Arms((1.0, TypeError()), (1.0, "second")))
    assert isinstance(outcome, Unknown)
    assert arms.began == [0.0]


# ---------------------------------------------------------------- one call


@both_loops
def test_every_arm_carries_the_one_key_that_was_made_for_the_call(backend: str) -> None:
    asked: list[str] = []

    def key(payment: str) -> str:
        asked.append(payment)
        return f"{payment}-{len(asked)}"  # as a random one would, another for each time it is asked

    ended(backend, hedged(effect=Effect.IDEMPOTENT, key=key), arms := Arms((9.0, "first"), (1.0, "second")))
    assert arms.keys == ["pay_1-1:acme", "pay_1-1:acme"]
    assert asked == ["pay_1"]


@both_loops
def test_each_arm_is_a_whole_call_with_its_own_retries(backend: str) -> None:
    arms = Arms((2.0, Down()), (9.0, "first"), (1.0, Down()), (1.0, "second"))
    pipeline = hedged(None, Retry(attempts=2, backoff=Constant(0)))
    outcome, at = ended(backend, pipeline, arms)
    assert (outcome.unwrap(), at, arms.began) == ("second", 5.0, [0.0, 2.0, 3.0, 4.0])
    assert pipeline.ends.ok == 1


@both_loops
def test_a_beaten_arm_counts_for_nobody_and_is_not_told_as_abandoned(backend: str) -> None:
    heard: list[Event] = []
    breaker = CircuitBreaker("acme", listeners=[])
    pipeline = hedged(None, breaker, Timeout(20.0), heard=heard, **IDEMPOTENT)
    ended(backend, pipeline, Arms((9.0, "first"), (1.0, "second")))
    assert (breaker.statistics()["succeeded"], breaker.statistics()["failed"]) == (1, 0)
    assert heard == [CallHedged(name="acme", arm=2, after=3.0, won=True, reference=None)]
    assert (pipeline.ends.ok, pipeline.ends.abandoned) == (1, 0)


@both_loops
def test_an_arm_that_ended_unknown_raises_no_alarm_where_another_was_answered(backend: str) -> None:
    heard: list[Event] = []
    ended(backend, hedged(heard=heard, **IDEMPOTENT), Arms((1.0, Lost()), (1.0, "second")))
    assert not any(isinstance(event, OutcomeUnknown) for event in heard)


@both_loops
def test_a_call_that_ends_unknown_is_told_once(backend: str) -> None:
    heard: list[Event] = []
    ended(backend, hedged(heard=heard, **IDEMPOTENT), Arms((1.0, Lost()), (1.0, Lost())))
    assert [type(event) for event in heard] == [CallHedged, OutcomeUnknown]


@both_loops
def test_every_further_arm_is_told_with_when_it_began_and_whether_it_won(backend: str) -> None:
    heard: list[Event] = []
    pipeline = hedged(Hedge(3.0, extra=2), heard=heard, reference=lambda *_: "ref_1")
    ended(backend, pipeline, Arms((9.0, "a"), (9.0, "b"), (1.0, "c")))
    assert heard == [
        CallHedged(name="acme", arm=2, after=3.0, won=False, reference="ref_1"),
        CallHedged(name="acme", arm=3, after=6.0, won=True, reference="ref_1"),
    ]


# ---------------------------------------------------------------- the set-up


@both_loops
def test_it_stands_alone_and_keeps_the_signature(backend: str) -> None:
    arms = Arms((9.0, "first"), (1.0, "second"))
    hedge = Hedge(3.0, effect=Effect.IDEMPOTENT, classify=RULES, listeners=[])

    @hedge
    async def read(payment: str) -> Any:
        return await arms.read()

    async def world() -> Any:
        with idempotency_key("pay_1"):
            return await read("pay_1")

    assert (on(backend, world), arms.keys) == ("second", ["pay_1:hedge"] * 2)
    assert hedge.statistics()["ok"] == 1


def test_in_instant_time_nothing_is_waited_for() -> None:
    async def read() -> str:
        await anyio.lowlevel.checkpoint()
        return "read"

    async def world() -> Any:
        return await hedged().acall(read)

    with instant():
        assert anyio.run(world) == "read"


def test_twice_is_twice_so_an_unsafe_call_is_refused_at_construction() -> None:
    with pytest.raises(ConfigurationError, match="twice is twice"):
        hedged(effect=Effect.UNSAFE)
    with pytest.raises(ConfigurationError, match="twice is twice"):
        Hedge(3.0, effect=Effect.UNSAFE)
    with pytest.raises(ConfigurationError, match="twice is twice"):
        Hedge(3.0)(Arms().read)


def test_a_plain_function_is_refused_where_it_is_decorated() -> None:
    def read() -> str:
        return "read"

    for guard in (Hedge(3.0, effect=Effect.READ), hedged()):
        with pytest.raises(DecorationError, match="a thread cannot be"):
            guard(read)
        with pytest.raises(DecorationError, match="a thread cannot be"):
            guard.call(read)
    with pytest.raises(DecorationError, match="a thread cannot be"):
        Hedge(3.0).around(hedged()._plan, lambda: Ok(1), (), {})


@pytest.mark.parametrize(
    "wrong", [{"after": -1}, {"after": "p95"}, {"after": 1, "extra": 0}, {"after": 1, "extra": 11}, {"after": 1, "budget": 3}], ids=str
)
def test_what_cannot_work_is_refused_where_it_is_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Hedge(**wrong)


def test_an_effect_must_be_an_effect() -> None:
    wrong: Any = "read"
    with pytest.raises(ConfigurationError):
        Hedge(1.0, effect=wrong)


@both_loops
def test_a_clock_that_cannot_wait_ends_the_call_as_it_would_in_a_retry(backend: str) -> None:
    async def story() -> None:
        hedge = Hedge(1.0, effect=Effect.READ, listeners=[])
        clock = hedge._clock

        class Broken:
            monotonic, utc, sleep_sync = clock.monotonic, clock.utc, clock.sleep_sync

            async def sleep(self, seconds: float, /) -> None:
                raise OverflowError(seconds)

        hedge._hear(Broken())
        with pytest.raises(OverflowError):
            await hedge.aoutcome(anyio.sleep, 5.0)

    on(backend, story)
