"""What a cancelled attempt raised while it cleaned up was taken for how the call had ended."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finresilience import CircuitBreaker, Pipeline, Timeout, Unknown, UnknownOutcomeError
from finresilience.classify import evidence
from finresilience.policies import alanes, shells
from finresilience.testing import run_virtual
from tests.laws.sabotage import each_kill, kills
from tests.laws.worlds import both_loops, on
from tests.regressions.sending import Answered, no_error_is_instead_of_a_cancellation, retrying

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

FORMS = ["decorated", "called"]
Patch = pytest.MonkeyPatch


@both_loops
@pytest.mark.parametrize("form", FORMS)
def test_what_the_clean_up_raises_after_an_expiry_does_not_repeat_the_call(form: str, backend: str) -> None:
    """The attempt had expired; that its lock could not be released was then taken for why it failed."""
    charged: list[int] = []

    async def charge() -> None:
        charged.append(1)
        try:
            await anyio.sleep(60)
        finally:
            raise ConnectionRefusedError("the lock service is gone")

    pipeline = retrying("acme", Timeout(0.5))
    guarded = pipeline(charge) if form == "decorated" else charge
    assert isinstance(on(backend, lambda: pipeline.aoutcome(guarded)), Unknown)
    assert charged == [1]


def the_last_error_is_believed(patch: Patch) -> None:
    def after_expiry(plan: object, error: Exception, expiry: object) -> Exception:
        return error

    no_error_is_instead_of_a_cancellation(patch)
    for module in (alanes, shells):
        patch.setattr(module, "after_expiry", after_expiry)


@both_loops
@pytest.mark.parametrize("form", FORMS)
def test_a_cancelled_call_is_not_repeated_because_its_clean_up_failed(form: str, backend: str) -> None:
    """An error raised in place of a cancellation from outside made the cancelled call go on with its next attempt."""
    charged, ends = list[int](), list[type[Exception]]()

    async def charge() -> None:
        charged.append(1)
        try:
            await anyio.sleep(60)
        finally:
            raise ConnectionRefusedError("the lock service is gone")

    pipeline = retrying()
    call = pipeline(charge) if form == "decorated" else lambda: pipeline.acall(charge)

    async def world() -> None:
        with anyio.move_on_after(1):
            try:
                await call()
            except Exception as error:
                ends.append(type(error))

    on(backend, world)
    assert (charged, ends) == ([1], [UnknownOutcomeError])


@both_loops
def test_a_no_to_the_clean_up_is_no_answer_to_the_expired_call(backend: str) -> None:
    async def charge() -> None:
        try:
            await anyio.sleep(60)
        finally:
            raise Answered(404)  # the lock that was to be deleted is gone

    assert isinstance(on(backend, lambda: retrying("acme", Timeout(0.5)).aoutcome(charge)), Unknown)


def test_a_task_that_once_was_cancelled_still_retries() -> None:
    """Before Python 3.13 a task group leaves its count on the task; and a reversal may be made in the `finally` of a cancelled one."""
    tries: list[int] = []

    async def refund() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionRefusedError
        return "refunded"

    async def charge() -> None:
        try:
            await anyio.sleep(60)
        finally:
            await retrying().acall(refund)

    async def world() -> None:
        task = asyncio.create_task(charge())
        await anyio.sleep(1)
        task.cancel()
        await asyncio.wait([task])

    run_virtual(world, backend="asyncio")
    assert len(tries) == 2


def a_cancellation_long_ago_is_one_of_this_attempt(patch: Patch) -> None:
    def ever(error: BaseException) -> bool:
        cause = error.__context__
        while cause is not None and not isinstance(cause, asyncio.CancelledError):
            cause = cause.__context__
        return cause is not None

    patch.setattr(evidence, "instead_of_cancellation", ever)


@both_loops
def test_a_timeout_of_the_client_inside_is_no_clean_up(backend: str) -> None:
    breaker = CircuitBreaker("acme", consecutive_failures=1, listeners=[])

    async def charge() -> None:
        async with asyncio.timeout(1) if backend == "asyncio" else _trio_timeout():
            await anyio.sleep(60)

    assert isinstance(on(backend, lambda: Pipeline("acme", breaker, listeners=[]).aoutcome(charge)), Unknown)
    assert breaker.state == "open"


@asynccontextmanager
async def _trio_timeout() -> AsyncGenerator[None]:
    with anyio.fail_after(1):
        yield


@each_kill(
    *(
        (the_last_error_is_believed, test_what_the_clean_up_raises_after_an_expiry_does_not_repeat_the_call, form, loop)
        for form in FORMS
        for loop in ("asyncio", "trio")
    ),
    *(
        (no_error_is_instead_of_a_cancellation, test_a_cancelled_call_is_not_repeated_because_its_clean_up_failed, form, loop)
        for form in FORMS
        for loop in ("asyncio", "trio")
    ),
    (no_error_is_instead_of_a_cancellation, test_a_no_to_the_clean_up_is_no_answer_to_the_expired_call, "asyncio"),
    (no_error_is_instead_of_a_cancellation, test_a_no_to_the_clean_up_is_no_answer_to_the_expired_call, "trio"),
    (a_cancellation_long_ago_is_one_of_this_attempt, test_a_task_that_once_was_cancelled_still_retries),
    (a_cancellation_long_ago_is_one_of_this_attempt, test_a_timeout_of_the_client_inside_is_no_clean_up, "asyncio"),
)
def test_its_saboteur_is_found_out(row: tuple[Any, ...]) -> None:
    kills(*row)
