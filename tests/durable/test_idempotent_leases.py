"""A lease is renewed while the body runs; who has lost it sends no more; cancelled, or with a store that fails, nobody pays twice."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finresilience import NotFound, UnknownOutcomeError, mark_sent
from finresilience.durable.amemory_idempotency import AsyncMemoryIdempotencyStore
from finresilience.durable.errors import StoreBusyError
from finresilience.durable.idempotent_errors import KeyInProgressError
from finresilience.durable.memory_idempotency import MemoryIdempotencyStore
from finresilience.durable.records import KeyState
from tests.durable.idempotents import FLAVOURS, LEASE, DownError, LostError, Payment, Request, Till, paid

if TYPE_CHECKING:
    from collections.abc import Callable

LOOPS = ["asyncio", "trio"]


@pytest.fixture(params=LOOPS)
def till(request: pytest.FixtureRequest) -> Till:
    return Till(request.param)


@pytest.fixture(params=FLAVOURS)
def any_till(request: pytest.FixtureRequest) -> Till:
    return Till(request.param)


def slow(till: Till, seconds: float, *, sends: bool = False) -> Callable[[Request], Any]:
    async def body(req: Request) -> Payment:
        till.runs.append(req)
        if sends:
            mark_sent()
        await till.clock.sleep(seconds)
        if not sends:
            mark_sent()
        return paid(req)

    return body


class Troubled(MemoryIdempotencyStore):
    """A store that cannot be reached, for so many calls of one method."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.trouble: dict[str, int] = {}
        self.asked: list[str] = []

    def _meet(self, what: str) -> None:
        self.asked.append(what)
        if self.trouble.get(what, 0) > 0:
            self.trouble[what] -= 1
            raise OSError(what)

    def renew(self, *args: Any, **more: Any) -> None:
        self._meet("renew")
        super().renew(*args, **more)

    def complete(self, *args: Any, **more: Any) -> None:
        self._meet("complete")
        super().complete(*args, **more)

    def release(self, *args: Any, **more: Any) -> None:
        self._meet("release")
        super().release(*args, **more)

    def mark_indeterminate(self, *args: Any, **more: Any) -> None:
        self._meet("mark_indeterminate")
        super().mark_indeterminate(*args, **more)


def troubled(till: Till, **trouble: int) -> Troubled:
    store = Troubled(clock=till.clock)
    store.trouble = dict(trouble)
    till.store = store
    till.shared = store if till.flavour == "sync" else AsyncMemoryIdempotencyStore(store)
    return store


# ---------------------------------------------------------------- renewal


def test_a_body_that_outlives_its_lease_many_times_has_no_heir(till: Till) -> None:
    pay = till.made(deadline=None)(slow(till, LEASE * 10))

    async def two() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(pay, Request())
            for _ in range(9):
                await till.clock.sleep(LEASE)
                with pytest.raises(KeyInProgressError):
                    await pay(Request())

    till.run(two)
    assert (len(till.runs), till.states()) == (1, [KeyState.COMPLETED])


def test_a_renewal_that_fails_is_tried_again_before_the_lease_runs_out(till: Till) -> None:
    troubled(till, renew=5)
    pay = till.made(deadline=None)(slow(till, LEASE * 2))
    assert till.run(pay, Request()) == paid(Request())
    assert till.states() == [KeyState.COMPLETED]


def test_who_cannot_renew_in_time_sends_no_more(till: Till) -> None:
    troubled(till, renew=10**6)
    pay = till.made(deadline=None, marks_sent=True)(slow(till, LEASE * 2))
    with pytest.raises(Exception, match="given up before its request was sent"):
        till.run(pay, Request())
    assert till.clock.monotonic() == pytest.approx(LEASE)
    assert till.states() == []


def test_who_has_lost_the_claim_before_he_sent_is_stopped(till: Till) -> None:
    sent: list[str] = []

    async def body(req: Request) -> Payment:
        till.inherited_by_another()
        await till.clock.sleep(LEASE)
        sent.append("too late")
        return paid(req)

    with pytest.raises(UnknownOutcomeError):
        till.run(till.made(deadline=None)(body), Request())
    assert sent == []
    assert "ClaimLost" in till.events()


def test_who_has_sent_already_may_finish_and_has_his_answer(till: Till) -> None:
    async def body(req: Request) -> Payment:
        mark_sent()
        till.inherited_by_another()
        await till.clock.sleep(LEASE)
        return paid(req)

    assert till.run(till.made(deadline=None, marks_sent=True)(body), Request()) == paid(Request())
    assert [(event.doing, event.happened) for event in till.told] == [("renew", False), ("complete", True)]


def test_what_we_did_not_do_is_not_known_once_somebody_else_has_the_key(any_till: Till) -> None:
    till = any_till

    def down(req: Request) -> Payment:
        till.inherited_by_another()
        raise DownError

    with pytest.raises(UnknownOutcomeError) as caught:
        till.operation(down)(Request())
    assert isinstance(caught.value.__cause__, DownError)


# ---------------------------------------------------------------- the store fails at the end


def test_a_store_that_hiccups_is_told_again(any_till: Till) -> None:
    troubled(any_till, complete=2)
    assert any_till.operation(paid)(Request()) == paid(Request())
    assert any_till.states() == [KeyState.COMPLETED]


def test_an_answer_comes_through_though_the_store_is_gone_and_is_never_run_again(any_till: Till) -> None:
    troubled(any_till, complete=10**6)
    pay = any_till.operation(paid)
    assert pay(Request()) == paid(Request())
    assert [(event.doing, event.error_type) for event in any_till.told] == [("complete", "OSError")]
    any_till.advance(LEASE)
    with pytest.raises(UnknownOutcomeError):
        pay(Request())
    assert len(any_till.runs) == 1


def test_an_error_comes_through_though_the_store_is_gone_with_a_note(any_till: Till) -> None:
    def down(req: Request) -> Payment:
        raise DownError

    troubled(any_till, release=10**6)
    with pytest.raises(DownError) as caught:
        any_till.operation(down)(Request())
    assert "was not told how this ended" in caught.value.__notes__[-1]


def test_a_store_that_hangs_holds_nobody_up_for_long(till: Till) -> None:
    class Hangs(MemoryIdempotencyStore):
        """Complete never answers."""

    inner = AsyncMemoryIdempotencyStore(Hangs(clock=till.clock))

    class Slow:
        max_response = 1000

        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

        async def claim(self, *args: Any, **more: Any) -> Any:
            return await inner.claim(*args, **more)

        async def complete(self, *args: Any, **more: Any) -> None:
            await till.clock.sleep(10**6)

    till.shared = Slow()
    assert till.operation(paid)(Request()) == paid(Request())
    assert till.clock.monotonic() <= 5.1
    assert [(event.doing, event.error_type) for event in till.told] == [("complete", "TimeoutError")]


def test_a_row_that_another_transaction_holds_is_somebody_at_work(any_till: Till) -> None:
    class Busy(MemoryIdempotencyStore):
        def claim(self, *args: Any, **more: Any) -> Any:
            raise StoreBusyError

    store = Busy(clock=any_till.clock)
    any_till.shared = store if any_till.flavour == "sync" else AsyncMemoryIdempotencyStore(store)
    with pytest.raises(KeyInProgressError):
        any_till.operation(paid)(Request())


def test_a_claim_that_fails_says_that_nothing_was_sent(any_till: Till) -> None:
    class Gone(MemoryIdempotencyStore):
        def claim(self, *args: Any, **more: Any) -> Any:
            raise OSError

    if any_till.flavour == "sync":
        any_till.shared = Gone(clock=any_till.clock)
        with pytest.raises(OSError) as caught:
            any_till.operation(paid)(Request())
        assert "nothing was sent" in caught.value.__notes__[0]
    else:
        any_till.shared = AsyncMemoryIdempotencyStore(Gone(clock=any_till.clock))
        with pytest.raises(OSError):
            any_till.operation(paid)(Request())
    assert any_till.runs == []


# ---------------------------------------------------------------- cancellation


@pytest.mark.parametrize(
    ("marks", "sends", "left"), [(False, False, KeyState.INDETERMINATE), (True, True, KeyState.INDETERMINATE), (True, False, None)]
)
def test_a_cancelled_call_leaves_a_doubt_unless_it_surely_sent_nothing(till: Till, marks: bool, sends: bool, left: KeyState | None) -> None:
    async def cancelled() -> None:
        with anyio.move_on_after(1.0) as scope:
            await till.made(marks_sent=marks)(slow(till, 20.0, sends=sends))(Request())
        assert scope.cancelled_caught

    till.run(cancelled)
    assert till.states() == ([] if left is None else [left])


def test_a_task_that_is_cancelled_by_asyncio_itself_leaves_a_doubt_too() -> None:
    import asyncio

    till = Till("asyncio")

    async def cancelled() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await till.made()(slow(till, 20.0))(Request())

    till.run(cancelled)
    assert till.states() == [KeyState.INDETERMINATE]


@pytest.mark.parametrize("native", [False, True])
def test_a_cancellation_while_the_store_is_told_does_not_lose_the_answer(native: bool) -> None:
    import asyncio

    till = Till("asyncio")
    inner = AsyncMemoryIdempotencyStore(till.store)
    told: list[str] = []

    class Slow:
        max_response = 1000

        async def claim(self, *args: Any, **more: Any) -> Any:
            return await inner.claim(*args, **more)

        async def complete(self, *args: Any, **more: Any) -> None:
            told.append("begun")
            await till.clock.sleep(2.0)
            await inner.complete(*args, **more)

        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

    till.shared = Slow()

    async def body(req: Request) -> Payment:
        return paid(req)

    async def cancelled() -> Any:
        pay = till.made()(body)
        if not native:
            with anyio.move_on_after(1.0):
                return await pay(Request())
            return None
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await pay(Request())
        return None

    answer = till.run(cancelled)
    assert till.states() == [KeyState.COMPLETED]
    assert native or answer == paid(Request())  # a shield holds off a scope's cancellation, and a value in hand wins


def test_what_a_cancelled_body_cleans_up_is_not_taken_for_its_end(till: Till) -> None:
    async def body(req: Request) -> Payment:
        try:
            await till.clock.sleep(20.0)
        finally:
            raise LostError

    async def cancelled() -> None:
        with anyio.move_on_after(1.0):
            with pytest.raises(UnknownOutcomeError):
                await till.made()(body)(Request())

    till.run(cancelled)
    assert till.states() == [KeyState.INDETERMINATE]


def test_a_deadline_of_its_own_is_an_unknown_outcome(till: Till) -> None:
    with pytest.raises(UnknownOutcomeError):
        till.run(till.made(deadline=5.0)(slow(till, 20.0)), Request())
    assert (till.clock.monotonic(), till.states()) == (pytest.approx(5.0, abs=0.02), [KeyState.INDETERMINATE])


def test_a_waiter_gets_the_answer_of_the_one_he_waited_for(till: Till) -> None:
    pay = till.made(wait=30.0)(slow(till, 3.0))
    answers: list[Any] = []

    async def one() -> None:
        answers.append(await pay(Request()))

    async def three() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(one)

    till.run(three)
    assert answers == [paid(Request())] * 3
    assert (len(till.runs), till.clock.monotonic() < 4.2) == (1, True)


def test_nobody_waits_past_the_deadline_of_whoever_called_him(till: Till) -> None:
    from finresilience import deadline

    pay = till.made(wait=50.0, deadline=None)(slow(till, 100.0))

    async def late() -> None:
        with deadline(7.0), pytest.raises(KeyInProgressError):
            await pay(Request())

    async def both() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(partial(pay, Request()))
            await till.clock.sleep(0.5)
            await late()
            assert till.clock.monotonic() == pytest.approx(7.5, abs=0.1)
            group.cancel_scope.cancel()

    till.run(both)


def test_an_inquiry_that_hangs_holds_the_key_no_longer_than_the_body_might(till: Till) -> None:
    async def recover(claimed: Any, req: Request) -> Any:
        await till.clock.sleep(10**6)

    till.left_behind()
    before = till.clock.monotonic()
    with pytest.raises(UnknownOutcomeError):
        till.operation(paid, recover=recover)(Request())
    assert till.clock.monotonic() == pytest.approx(before + LEASE / 2, abs=0.02)
    assert till.states() == [KeyState.IN_PROGRESS]  # let go: the next one asks again


def test_the_lease_is_renewed_while_the_provider_is_asked(till: Till) -> None:
    async def recover(claimed: Any, req: Request) -> Any:
        await till.clock.sleep(LEASE * 3)
        return NotFound()

    till.left_behind()
    assert till.operation(paid, recover=recover, deadline=LEASE * 4)(Request()) == paid(Request())
    assert till.records()[0].takeovers == 1


def test_a_renewal_that_fails_is_told(till: Till) -> None:
    troubled(till, renew=2)
    till.run(till.made(deadline=None)(slow(till, LEASE)), Request())
    assert [(event.doing, event.error_type) for event in till.told] == [("renew", "OSError")] * 2


async def test_on_a_real_loop_too_one_key_has_one_answer() -> None:
    till = Till("asyncio")
    till.shared = AsyncMemoryIdempotencyStore()

    async def body(req: Request) -> Payment:
        till.runs.append(req)
        return paid(req)

    pay = till.made(clock=None)(body)
    assert await pay(Request()) == await pay(Request()) == paid(Request())
    assert len(till.runs) == 1
