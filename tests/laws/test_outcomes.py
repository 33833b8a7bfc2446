"""The laws of outcomes 1 to 7, each with a saboteur that it kills."""

from __future__ import annotations

from itertools import product
from typing import Any

import anyio
import pytest

from finresilience import (
    CallAbandoned,
    CircuitBreaker,
    CircuitOpenError,
    Constant,
    Declined,
    Effect,
    ExpiredError,
    Failed,
    MissingKeyError,
    Ok,
    Pipeline,
    Refused,
    RefusedError,
    Retry,
    Timeout,
    Unknown,
    UnknownOutcomeError,
    current_key,
    deadline,
    idempotency_key,
)
from finresilience.cores.join import End, Join
from finresilience.outcome import UNKNOWN
from tests.laws.worlds import Down, Lost, No, Provider, both_loops, guarded, on, still

KINDS = {"ok": "ok", "down": Down, "lost": Lost, "no": No}


def expected(script: tuple[str, ...], effect: Effect, *, keyed: bool) -> type:
    """Law 1 in other words: walk the attempts that such a call makes, and join them."""
    seen: list[str] = []
    for kind in script:
        seen.append(kind)
        if kind in {"ok", "no"} or (kind == "lost" and not effect.repeatable):
            break
    if "ok" in seen:
        return Ok
    if seen[-1] == "no" and (keyed or "lost" not in seen or effect is Effect.READ):
        return Declined
    return Unknown if "lost" in seen and effect is not Effect.READ else Failed


def made(kind: str) -> Any:
    what = KINDS[kind]
    return what() if isinstance(what, type) else what


def breaks_join() -> list[str]:
    wrong = []
    for effect, script in product(Effect, product(KINDS, repeat=3)):
        keyed = effect is Effect.IDEMPOTENT
        pipeline = guarded(effect, clock=still(), key=(lambda *_: "pay_1") if keyed else None)
        outcome = pipeline.outcome(Provider(*map(made, script)).charge)
        if type(outcome) is not expected(script, effect, keyed=keyed):
            wrong.append(f"{effect.value} {script}: {outcome!r}")
    return wrong


def test_the_outcome_of_a_call_is_the_join_over_its_attempts() -> None:
    assert breaks_join() == []


def test_a_join_that_believes_the_last_attempt_alone_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def last_only(self: Join) -> End:
        return End.UNKNOWN if self._last is not None and self._last.classification is UNKNOWN else End.FAILED

    monkeypatch.setattr(Join, "end", last_only)
    assert breaks_join()


def test_it_is_refused_only_if_no_attempt_was_sent() -> None:
    breaker = CircuitBreaker("acme", consecutive_failures=1, clock=(clock := still()), listeners=[])
    pipeline = guarded(clock=clock, breaker=breaker)
    provider = Provider(Lost())
    assert isinstance(pipeline.outcome(provider.charge), Unknown)  # the circuit opened under it: still unknown
    assert isinstance(pipeline.outcome(provider.charge), Refused)
    assert provider.attempts == 1


def test_a_call_that_ends_unknown_raises_unknown_from_the_last_error() -> None:
    lost = Lost()
    with pytest.raises(UnknownOutcomeError) as caught:
        guarded(Effect.UNSAFE, clock=still()).call(Provider(lost).charge)
    assert caught.value.__cause__ is lost
    assert caught.value.attempts == 1


def test_a_read_never_ends_unknown() -> None:
    with pytest.raises(Lost) as caught:
        guarded(Effect.READ, clock=still()).call(Provider(Lost(), Lost(), Lost()).charge)
    assert "3 attempts" in caught.value.__notes__[0]


def test_every_other_end_raises_the_callers_own_error_unwrapped() -> None:
    for error in (No(), Down()):
        with pytest.raises(type(error)) as caught:
            guarded(clock=still(), attempts=1).call(Provider(error).charge)
        assert caught.value is error


def test_one_error_object_raised_for_ever_carries_one_note_and_is_retried_each_time() -> None:
    error, pipeline = Down(), guarded(clock=still(), attempts=2)
    for _ in range(5):
        provider = Provider(error, error)
        with pytest.raises(Down):
            pipeline.call(provider.charge)
        assert provider.attempts == 2
    assert len(error.__notes__) == 1


@both_loops
def test_a_value_that_meets_its_expiry_wins(backend: str) -> None:
    pipeline = guarded(timeout=1.0)

    async def stubborn() -> str:
        try:
            await anyio.sleep(5)
        except anyio.get_cancelled_exc_class():  # the receipt came in just as the time ran out
            return "receipt"
        return "never"

    async def world() -> Any:
        answer = await pipeline.acall(stubborn)
        with anyio.CancelScope():  # nothing of the expiry is left behind to hit the next await
            await anyio.sleep(1)
        return answer

    assert on(backend, world) == "receipt"


@both_loops
def test_expiry_is_unknown_and_counts_against_the_provider(backend: str) -> None:
    breaker = CircuitBreaker("acme", consecutive_failures=1, listeners=[])
    pipeline = guarded(Effect.UNSAFE, breaker=breaker)
    outcome = on(backend, pipeline.aoutcome, Provider(60.0).acharge)
    assert isinstance(outcome, Unknown)
    assert isinstance(outcome.error.__cause__, ExpiredError)
    assert breaker.state == "open"


@both_loops
def test_an_attempt_cut_short_by_an_outer_deadline_is_unknown_but_does_not_count(backend: str) -> None:
    breaker = CircuitBreaker("acme", consecutive_failures=1, listeners=[])
    pipeline = guarded(Effect.UNSAFE, breaker=breaker)

    async def world() -> Any:
        with deadline(0.5):
            return await pipeline.aoutcome(Provider(60.0).acharge)

    assert isinstance(on(backend, world), Unknown)
    assert breaker.state == "closed"


@both_loops
def test_the_callees_own_timeout_error_is_not_ours(backend: str) -> None:
    error = TimeoutError("the provider's own")
    outcome = on(backend, guarded(Effect.UNSAFE).aoutcome, Provider(error).acharge)
    assert outcome.error.__cause__ is error


@both_loops
def test_cancellation_from_outside_is_neutral_and_passes_through(backend: str) -> None:
    heard: list[Any] = []
    breaker = CircuitBreaker("acme", consecutive_failures=1, listeners=[])
    pipeline = guarded(Effect.UNSAFE, heard=heard, breaker=breaker)

    async def world() -> bool:
        with anyio.move_on_after(0.3) as scope:
            await pipeline.acall(Provider(1.5).acharge)
        return scope.cancelled_caught

    assert on(backend, world)
    assert breaker.state == "closed"
    assert [type(event) for event in heard] == [CallAbandoned]


@both_loops
def test_nested_timeouts_each_tell_their_own_expiry(backend: str) -> None:
    inner, outer = Timeout(1.0, name="inner"), Timeout(3.0, name="outer")

    async def slow() -> None:
        await anyio.sleep(60)

    async def world() -> tuple[str, str]:
        names = []
        for first, second in ((inner, outer), (outer, inner)):
            try:
                await second.acall(first(slow))
            except UnknownOutcomeError as error:
                root: BaseException = error
                while root.__cause__ is not None:
                    root = root.__cause__
                assert isinstance(root, ExpiredError)
                names.append(root.name)
        return names[0], names[1]

    assert on(backend, world)[0] == "inner"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_interrupts_are_never_retried_swallowed_or_counted(kind: type[BaseException]) -> None:
    breaker = CircuitBreaker("acme", consecutive_failures=1, clock=(clock := still()), listeners=[])
    provider = Provider(kind())
    with pytest.raises(kind):
        guarded(clock=clock, breaker=breaker).call(provider.charge)
    assert provider.attempts == 1
    assert breaker.statistics()["failed"] == 0


def test_our_own_refusals_are_never_retried_and_never_recorded() -> None:
    breaker = CircuitBreaker("acme", consecutive_failures=1, clock=(clock := still()), listeners=[])
    shut = CircuitBreaker("inner", clock=clock, listeners=[])
    shut.force_open()
    provider = Provider("ok")
    outcome = guarded(clock=clock, breaker=breaker).outcome(shut(provider.charge))
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, CircuitOpenError)
    assert (provider.attempts, breaker.statistics()["failed"]) == (0, 0)


def test_a_deadline_that_has_passed_means_no_call() -> None:
    clock, provider = still(), Provider("ok")
    pipeline = guarded(clock=clock, deadline=1.0)

    def late() -> Any:
        clock.advance(5.0)
        return pipeline.call(provider.charge)

    with pytest.raises(RefusedError, match="deadline passed"):
        guarded(clock=clock, deadline=2.0).call(late)
    assert provider.attempts == 0


def half_open(calls: int = 1, **more: Any) -> tuple[CircuitBreaker, Any]:
    clock = still()
    breaker = CircuitBreaker("acme", consecutive_failures=1, half_open_calls=calls, open_for=10.0, clock=clock, listeners=[], **more)
    with pytest.raises(Down):
        breaker.call(Provider(Down()).charge)
    clock.advance(12.0)
    return breaker, clock


def test_a_failed_probe_in_half_open_ends_the_loop() -> None:
    breaker, clock = half_open()
    provider = Provider(Down(), "ok")
    outcome = guarded(clock=clock, breaker=breaker).outcome(provider.charge)
    assert isinstance(outcome, Failed)
    assert provider.attempts == 1
    assert breaker.state == "open"


def test_a_permit_is_settled_before_the_backoff_sleep() -> None:
    breaker, clock = half_open(calls=2, failure_rate=1.0)
    states: list[str] = []
    clock_sleep = clock.sleep_sync

    class Watching:
        monotonic = staticmethod(clock.monotonic)
        utc = staticmethod(clock.utc)

        def sleep_sync(self, seconds: float) -> None:
            states.append(str(breaker.statistics()["failed"]))
            clock_sleep(seconds)

    retry = Retry(attempts=2, backoff=Constant(1.0))
    pipeline = Pipeline("acme", CircuitBreaker("b", clock=clock, listeners=[]), retry, effect=Effect.READ, clock=Watching(), listeners=[])
    breaker = pipeline.policies[0]  # type: ignore[assignment]  # the one we just made
    assert pipeline.call(Provider(Down(), "ok").charge) == "ok"
    assert states == ["1"]


def test_a_hung_probe_neither_wedges_nor_closes_the_circuit() -> None:
    breaker, clock = half_open(probe_lease=5.0)
    hung = breaker.admit(clock.monotonic())
    assert hung is not None
    assert breaker.admit(clock.monotonic()) is None
    clock.advance(6.0)
    assert breaker.admit(clock.monotonic()) is None  # its lease ran out, nobody answers: open again
    clock.advance(60.0)
    assert breaker.admit(clock.monotonic()) is not None
    breaker.settle(hung, clock.monotonic(), failed=False)  # late
    assert breaker.state == "half_open"


def test_a_late_success_of_an_older_generation_does_not_close_the_circuit() -> None:
    clock = still()
    breaker = CircuitBreaker("acme", consecutive_failures=1, open_for=10.0, clock=clock, listeners=[])
    old = breaker.admit(clock.monotonic())
    assert old is not None
    with pytest.raises(Down):
        breaker.call(Provider(Down()).charge)
    breaker.settle(old, clock.monotonic(), failed=False)
    assert breaker.state == "open"
    assert breaker.statistics()["late"] == 1


def test_declines_open_no_circuit() -> None:
    breaker = CircuitBreaker("acme", consecutive_failures=1, clock=(clock := still()), listeners=[])
    pipeline = guarded(clock=clock, breaker=breaker)
    for _ in range(50):
        assert isinstance(pipeline.outcome(Provider(No()).charge), Declined)
    assert breaker.state == "closed"


def test_the_key_is_minted_once_per_call_and_is_the_same_on_every_attempt() -> None:
    asked, seen = [], []

    def key(payment: str) -> str:
        asked.append(payment)
        return payment

    def charge(_: str) -> str:
        seen.append(current_key())
        if len(seen) < 3:
            raise Lost
        return "ok"

    pipeline = guarded(Effect.IDEMPOTENT, key=key, clock=still())
    assert pipeline(charge)("pay_1") == "ok"
    assert seen == ["pay_1:acme"] * 3
    assert asked == ["pay_1"]


def test_an_idempotent_call_without_a_key_is_not_sent() -> None:
    pipeline, provider = guarded(Effect.IDEMPOTENT, clock=still()), Provider()
    with pytest.raises(MissingKeyError, match="Nothing was sent"):
        pipeline.call(provider.charge)
    with idempotency_key("pay_1"):
        assert pipeline.call(provider.charge) == "ok"
    assert provider.attempts == 1
