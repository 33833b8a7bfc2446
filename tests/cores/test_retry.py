"""Shall this be tried again, and when? The whole table, and the arithmetic of time."""

from __future__ import annotations

from itertools import product
from math import inf
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

from finresilience.cores.backoff import Backoff, Constant, DecorrelatedJitter, FullJitter
from finresilience.cores.retry import RetrySettings, Stop, may_repeat
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN, Classification, Effect, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

GO = None
TABLE = {  # (classification, whether the provider is at fault): READ, IDEMPOTENT, BY_NATURE, UNSAFE
    (RETRYABLE, True): (GO, GO, GO, GO),
    (RETRYABLE, False): (GO, GO, GO, GO),
    (NON_RETRYABLE, True): (Stop.DECLINED,) * 4,
    (NON_RETRYABLE, False): (Stop.DECLINED,) * 4,
    (UNKNOWN, True): (GO, GO, GO, Stop.UNSAFE),
    (UNKNOWN, False): (Stop.NOT_THE_PROVIDER, Stop.NOT_THE_PROVIDER, Stop.NOT_THE_PROVIDER, Stop.UNSAFE),
}
CASES = [
    (Verdict(kind, counts_against_provider=counts), effect, wanted)
    for (kind, counts), row in TABLE.items()
    for effect, wanted in zip((Effect.READ, Effect.IDEMPOTENT, Effect.IDEMPOTENT_BY_NATURE, Effect.UNSAFE), row, strict=True)
]
spans = st.floats(0, 100)


def settings(
    *, attempts: int = 4, backoff: Backoff | None = None, max_elapsed: float = inf, max_retry_after: float = 60.0
) -> RetrySettings:
    backoff = Constant(1.0) if backoff is None else backoff
    return RetrySettings(attempts=attempts, backoff=backoff, max_elapsed=max_elapsed, max_retry_after=max_retry_after)


def decide(made: RetrySettings, verdict: Verdict, **facts: Any) -> tuple[float, float] | Stop:
    told: dict[str, Any] = {"effect": Effect.READ, "attempt": 1, "spent": 0, "elapsed": 0.0, "left": inf, "u": 0.5, "carry": 0.0} | facts
    return made.decide(verdict, **told)


def again(after: float | None = None) -> Verdict:
    return Verdict(RETRYABLE, retry_after=after)


def test_the_table_is_complete() -> None:
    assert {(case[0].classification, case[0].counts_against_provider, case[1]) for case in CASES} == set(
        product(Classification, (True, False), Effect)
    )


@pytest.mark.parametrize("attempt", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("spent", [0, 1, 4, 9])
def test_every_verdict_effect_and_count_decides_as_the_table_says(attempt: int, spent: int) -> None:
    for verdict, effect, wanted in CASES:
        assert may_repeat(verdict, effect) is wanted
        decided = decide(settings(), verdict, effect=effect, attempt=attempt, spent=spent)
        if wanted is not GO:
            assert decided is wanted
        elif attempt >= 4:
            assert decided is Stop.ATTEMPTS
        elif spent >= 4:
            assert decided is Stop.NESTED
        else:
            assert decided == (1.0, 0.0)


def test_an_unsafe_call_that_may_have_happened_is_never_sent_again() -> None:
    for counts, after, attempt in product((True, False), (None, 0.0, 5.0), (1, 2, 3)):
        verdict = Verdict(UNKNOWN, counts_against_provider=counts, retry_after=after)
        assert decide(settings(), verdict, effect=Effect.UNSAFE, attempt=attempt) is Stop.UNSAFE


def test_one_attempt_means_one_attempt() -> None:
    assert decide(settings(attempts=1), again()) is Stop.ATTEMPTS


@given(spans, spans, spans, spans, st.none() | st.floats(0, 1000), st.floats(0, 1, exclude_max=True))
def test_no_attempt_is_begun_that_cannot_finish(
    elapsed: float, left: float, max_elapsed: float, cap: float, after: float | None, u: float
) -> None:
    made = settings(backoff=FullJitter(1.0, cap=cap), max_elapsed=max_elapsed, max_retry_after=30.0)
    decided = decide(made, again(after), elapsed=elapsed, left=left, u=u)
    if isinstance(decided, tuple):
        wait = decided[0]
        assert 0.0 <= wait <= max(cap, 30.0)
        assert wait < left
        assert elapsed + wait < max_elapsed
        assert after is None or after < left
    else:
        assert decided in {Stop.DEADLINE, Stop.ELAPSED}


def test_the_last_moment_is_already_too_late() -> None:
    assert decide(settings(), again(), left=1.0) is Stop.DEADLINE
    assert decide(settings(), again(), left=1.001) == (1.0, 0.0)
    assert decide(settings(max_elapsed=5.0), again(), elapsed=4.0) is Stop.ELAPSED
    assert decide(settings(max_elapsed=5.0), again(), elapsed=3.9) == (1.0, 0.0)


@pytest.mark.parametrize(("after", "wait"), [(None, 1.0), (0.0, 0.0), (0.5, 0.5), (7.0, 7.0), (600.0, 60.0), (1e300, 60.0)])
def test_what_the_provider_asked_for_beats_the_backoff_within_bounds(after: float | None, wait: float) -> None:
    assert decide(settings(), again(after)) == (wait, 0.0)


def test_a_wait_asked_for_beyond_the_deadline_ends_the_call_now_even_if_the_clamp_would_fit() -> None:
    assert decide(settings(max_retry_after=2.0), again(30.0), left=10.0) is Stop.DEADLINE
    assert decide(settings(max_retry_after=2.0), again(10.0), left=10.0) is Stop.DEADLINE
    assert decide(settings(max_retry_after=2.0), again(9.0), left=10.0) == (2.0, 0.0)


def test_the_schedule_counts_waits_from_zero_and_its_memory_is_carried() -> None:
    class Spy:
        cap = 9.0
        asked: tuple[float, ...] = ()

        def wait(self, n: int, u: float, carry: float, /) -> tuple[float, float]:
            self.asked = (n, u, carry)
            return 0.25, carry + 1

    spy = Spy()
    assert decide(settings(backoff=spy), again(), attempt=3, u=0.75, carry=4.0) == (0.25, 5.0)
    assert spy.asked == (2, 0.75, 4.0)
    assert decide(settings(backoff=DecorrelatedJitter(1.0)), again(20.0), u=0.5) == (20.0, 2.0)


def test_every_stop_is_a_clause_a_person_can_read() -> None:
    for stop in Stop:
        assert " " in stop.value
        assert not stop.value.endswith(".")


def violations(rule: Callable[[Verdict, Effect], Stop | None]) -> list[tuple[Verdict, Effect]]:
    return [(verdict, effect) for verdict, effect, wanted in CASES if rule(verdict, effect) is not wanted]


def test_the_table_catches_whoever_forgets_the_effect_the_verdict_or_the_fault() -> None:
    assert not violations(may_repeat)
    assert violations(lambda verdict, effect: may_repeat(verdict, Effect.READ))
    assert violations(lambda verdict, effect: may_repeat(Verdict(RETRYABLE), effect))
    assert violations(lambda verdict, effect: may_repeat(Verdict(verdict.classification, counts_against_provider=True), effect))
