"""What retries did elsewhere: they could not be cancelled, slept for nothing, hid the error, mixed up loops and waited on open circuits."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finresilience import CircuitBreaker, CircuitOpenError, ConfigurationError, Constant, Effect, FinresilienceError, Pipeline, Retry
from finresilience.policies import order, pipeline as pipelines
from finresilience.policies.attempts import Attempts
from tests.laws.sabotage import each_kill, kills
from tests.laws.worlds import RULES, Down, Held, Lost, Provider, both_loops, on, still

if TYPE_CHECKING:
    from collections.abc import Callable


INTERRUPTS = (KeyboardInterrupt, SystemExit, GeneratorExit)


def retry(**more: Any) -> Retry:
    settings: dict[str, Any] = {"attempts": 3, "backoff": Constant(1), "effect": Effect.IDEMPOTENT_BY_NATURE} | more
    return Retry(classify=RULES, listeners=[], **settings)


def naive(patch: pytest.MonkeyPatch, *, hides: bool = False, sleeps_last: bool = False) -> None:
    """Put a retry as one writes it in a hurry in the place of ours: whatever happens is tried again."""

    def decided(attempt: int, error: BaseException) -> None:
        if attempt == 3 and hides:
            message = "gave up"
            raise FinresilienceError(message) from None
        if attempt == 3:
            raise error

    def call(self: Retry, fn: Callable[..., Any]) -> Any:
        for attempt in (1, 2, 3):
            try:
                return fn()
            except BaseException as error:
                if attempt < 3 or sleeps_last:
                    self._clock.sleep_sync(1)
                decided(attempt, error)
        return None

    async def acall(self: Retry, fn: Callable[..., Any]) -> Any:
        for attempt in (1, 2, 3):
            try:
                return await fn()
            except BaseException as error:
                decided(attempt, error)
            with suppress(BaseException):
                await self._clock.sleep(60)
        return None

    patch.setattr(Retry, "call", call)
    patch.setattr(Retry, "acall", acall)


@both_loops
@pytest.mark.parametrize("when", ["attempt", "wait"])
def test_a_task_that_retries_can_be_cancelled(backend: str, when: str) -> None:
    """A cancellation was taken for one more failure: the task tried again, and finished instead of ending."""
    seen: list[str] = []
    hung = Held()

    async def work() -> None:
        seen.append("attempt")
        if when == "wait":
            raise Down
        await hung.work()

    async def caller() -> None:
        await retry(backoff=Constant(60)).acall(work)
        seen.append("finished")

    async def world() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller)
            await anyio.sleep(1)
            tasks.cancel_scope.cancel()

    on(backend, world)
    assert seen == ["attempt"]


@pytest.mark.parametrize("kind", INTERRUPTS)
def test_an_interrupt_is_not_tried_again(kind: type[BaseException]) -> None:
    """Ctrl-C was taken for one more failure."""
    provider = Provider(kind(), kind(), kind())
    with pytest.raises(kind):
        retry(clock=still()).call(provider.charge)
    assert provider.attempts == 1


@both_loops
def test_loops_that_share_one_retry_each_end_with_an_answer_or_an_error(backend: str) -> None:
    """The attempts were kept on the policy, so that of nine loops at once three ended with neither an answer nor an error."""
    shared, ends = retry(), []

    async def looped(number: int) -> None:
        end = "neither"
        with suppress(Down):
            end = "error"
            async for attempt in shared:
                end = "neither"
                with attempt:
                    await anyio.lowlevel.checkpoint()
                    if attempt.number <= number % 4:
                        end = "error"
                        raise Down
                    end = "answer"
        ends.append((number, end))

    async def world() -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(9):
                tasks.start_soon(looped, number)

    on(backend, world)
    assert sorted(ends) == [(number, "error" if number % 4 == 3 else "answer") for number in range(9)]


def all_loops_share_their_attempts(patch: pytest.MonkeyPatch) -> None:
    shared: dict[int, Attempts] = {}

    def aiter_(self: Retry) -> Attempts:
        return shared.setdefault(id(self), Attempts(self._plan))

    patch.setattr(Retry, "__aiter__", aiter_)


def test_there_is_no_wait_after_the_last_attempt() -> None:
    """It slept once more after the last attempt, for nothing."""
    clock = still()
    with pytest.raises(Down):
        retry(clock=clock).call(Provider(Down(), Down(), Down()).charge)
    assert clock.waits == [1, 1]


def test_a_retry_that_gives_up_raises_the_last_error_itself() -> None:
    """The provider's error was hidden in one of the library's own, without a cause."""
    errors = [Down(), Down(), Down()]
    with pytest.raises(Down) as caught:
        retry(clock=still()).call(Provider(*errors).charge)
    assert caught.value is errors[-1]


def test_a_retry_that_gives_up_not_knowing_names_the_last_error_as_its_cause() -> None:
    """Where an error of the library's own is raised, the provider's was lost."""
    errors = [Lost(), Lost(), Lost()]
    with pytest.raises(FinresilienceError) as caught:
        retry(clock=still()).call(Provider(*errors).charge)
    assert caught.value.__cause__ is errors[-1]


def test_an_open_circuit_is_not_waited_for() -> None:
    """A retry round a circuit tried again while it was open, and made its callers wait for a call that was never sent."""
    clock = still()
    shut = CircuitBreaker("acme", clock=clock, listeners=[])
    shut.trip()
    with pytest.raises(CircuitOpenError):
        retry(clock=clock).call(shut(Provider().charge))
    assert clock.waits == []


def test_a_retry_round_a_circuit_is_refused_when_the_pipeline_is_made() -> None:
    """By default, the retry stood outside the circuit."""
    with pytest.raises(ConfigurationError, match="CircuitBreaker belongs outside Retry"):
        Pipeline("acme", Retry(attempts=3), CircuitBreaker("acme"))


def any_order_will_do(patch: pytest.MonkeyPatch) -> None:
    placed = order.placed

    def lenient(policies: Any, *, allow_order: bool) -> Any:
        return placed(policies, allow_order=True)

    patch.setattr(pipelines, "placed", lenient)


def everything_is_tried_again(patch: pytest.MonkeyPatch) -> None:
    naive(patch)


def it_sleeps_after_the_last_attempt(patch: pytest.MonkeyPatch) -> None:
    naive(patch, sleeps_last=True)


def it_hides_the_last_error(patch: pytest.MonkeyPatch) -> None:
    naive(patch, hides=True)


@each_kill(
    *(
        (everything_is_tried_again, test_a_task_that_retries_can_be_cancelled, loop, when)
        for loop in ("asyncio", "trio")
        for when in ("attempt", "wait")
    ),
    *((everything_is_tried_again, test_an_interrupt_is_not_tried_again, kind) for kind in INTERRUPTS),
    (all_loops_share_their_attempts, test_loops_that_share_one_retry_each_end_with_an_answer_or_an_error, "asyncio"),
    (all_loops_share_their_attempts, test_loops_that_share_one_retry_each_end_with_an_answer_or_an_error, "trio"),
    (it_sleeps_after_the_last_attempt, test_there_is_no_wait_after_the_last_attempt),
    (it_hides_the_last_error, test_a_retry_that_gives_up_raises_the_last_error_itself),
    (it_hides_the_last_error, test_a_retry_that_gives_up_not_knowing_names_the_last_error_as_its_cause),
    (everything_is_tried_again, test_an_open_circuit_is_not_waited_for),
    (any_order_will_do, test_a_retry_round_a_circuit_is_refused_when_the_pipeline_is_made),
)
def test_its_saboteur_is_found_out(row: tuple[Any, ...]) -> None:
    kills(*row)
