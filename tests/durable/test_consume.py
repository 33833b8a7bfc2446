"""The loop round an inbox: once, together with its effect, and poison not for ever; sync and async alike."""

from __future__ import annotations

from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

import pytest
from anyio import CancelScope
from anyio.lowlevel import checkpoint

from finresilience import CircuitOpenError
from finresilience.durable.amemory_inbox import AsyncMemoryInboxStore
from finresilience.durable.consuming import aconsume, consume
from finresilience.durable.memory_inbox import MemoryInboxStore
from finresilience.durable.memory_transaction import TransactionState
from finresilience.durable.seen import UNFINISHED, Counted, Duplicate, Fresh, Parked, Underway
from finresilience.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.durable.memory_transaction import MemoryTransaction

MESSAGE: dict[str, Any] = {"group": "ledger", "message_id": "msg_1"}
REFUSED = CircuitOpenError("acme", "open", 5.0, 1, None)


class Boom(Exception):
    pass


class Desk:
    """A consumer with its inbox; `deliver` is sync or async, by the flavour of the test."""

    def __init__(self, flavour: str, park_after: int = 3) -> None:
        self.inbox = MemoryInboxStore(clock=ManualClock(), park_after=park_after)
        self.ainbox = AsyncMemoryInboxStore(self.inbox)
        self.flavour = flavour
        self.runs: list[MemoryTransaction] = []
        self.error: BaseException | None = None

    def handler(self, mine: MemoryTransaction) -> None:
        self.runs.append(mine)
        if self.error is not None:
            raise self.error

    async def ahandler(self, mine: MemoryTransaction) -> None:
        self.handler(mine)

    async def deliver(self, **more: Any) -> Any:
        told: dict[str, Any] = {**MESSAGE, **more}
        if self.flavour == "sync":
            return consume(self.inbox, self.inbox.transaction, self.handler, **told)
        return await aconsume(self.ainbox, self.ainbox.transaction, self.ahandler, **told)

    async def fail(self, error: BaseException, **more: Any) -> None:
        self.error = error
        with pytest.raises(type(error)):
            await self.deliver(**more)
        self.error = None

    def failures(self) -> int:
        return max(0, self.inbox.failed(**MESSAGE).failures - 1)


@pytest.fixture(params=["sync", "async"])
def desk(request: pytest.FixtureRequest) -> Callable[..., Desk]:
    return partial(Desk, request.param)


async def test_a_message_is_handled_in_the_transaction_of_its_marker(desk: Callable[..., Desk]) -> None:
    mine = desk()
    assert await mine.deliver() == Fresh()
    assert isinstance(await mine.deliver(), Duplicate)
    assert [run.state for run in mine.runs] == [TransactionState.COMMITTED]


async def test_what_the_handler_raises_is_raised_and_counted_and_rolled_back(desk: Callable[..., Desk]) -> None:
    mine = desk()
    await mine.fail(Boom())
    assert [run.state for run in mine.runs] == [TransactionState.ROLLED_BACK]
    assert await mine.deliver() == Fresh(failures=1)


async def test_poison_runs_as_often_as_was_promised(desk: Callable[..., Desk]) -> None:
    mine = desk(park_after=3)
    for _ in range(3):
        await mine.fail(Boom())
    assert await mine.deliver() == Parked(3)
    assert len(mine.runs) == 3
    assert [message.reason for message in mine.inbox.parked()] == ["Boom"]


async def test_the_last_failure_says_that_the_message_is_parked(desk: Callable[..., Desk]) -> None:
    mine = desk(park_after=1)
    mine.error = Boom()
    with pytest.raises(Boom) as caught:
        await mine.deliver()
    assert "is parked" in caught.value.__notes__[0]


async def test_poison_that_kills_its_consumers_is_parked_too(desk: Callable[..., Desk]) -> None:
    mine = desk(park_after=3)

    class Killed(BaseException):
        """As good as a SIGKILL: nobody counts afterwards."""

    for run in range(10):
        mine.error = Killed()
        try:
            told = await mine.deliver(redelivered=run > 0)
        except Killed:
            continue
        assert told == Parked(3)
    assert len(mine.runs) == 4  # the first was not counted, as the broker did not say that it had delivered it before
    assert [message.reason for message in mine.inbox.parked()] == [UNFINISHED]


async def test_poison_that_is_redelivered_runs_as_often_as_was_promised(desk: Callable[..., Desk]) -> None:
    mine = desk(park_after=3)
    for run in range(3):
        await mine.fail(Boom(), redelivered=run > 0)
    assert await mine.deliver(redelivered=True) == Parked(3)
    assert len(mine.runs) == 3
    assert [message.reason for message in mine.inbox.parked()] == ["Boom"]


async def test_the_last_run_that_was_promised_may_succeed(desk: Callable[..., Desk]) -> None:
    mine = desk(park_after=3)
    for run in range(2):
        await mine.fail(Boom(), redelivered=run > 0)
    mine.error = None
    assert await mine.deliver(redelivered=True)
    assert isinstance(await mine.deliver(redelivered=True), Duplicate)
    assert not mine.inbox.parked()


@pytest.mark.parametrize("redelivered", [False, True])
async def test_a_refusal_of_ours_is_nobodys_failure(desk: Callable[..., Desk], redelivered: bool) -> None:
    mine = desk(park_after=2)
    for _ in range(5):
        await mine.fail(REFUSED, redelivered=redelivered)
    assert mine.failures() == 0


async def test_a_redelivered_failure_is_counted_once(desk: Callable[..., Desk]) -> None:
    mine = desk(park_after=5)
    await mine.fail(Boom(), redelivered=True)
    assert mine.failures() == 1


async def test_a_redelivered_duplicate_has_no_failures(desk: Callable[..., Desk]) -> None:
    mine = desk(park_after=2)
    await mine.deliver()
    for _ in range(5):
        assert isinstance(await mine.deliver(redelivered=True), Duplicate)
    assert mine.inbox.failed(**MESSAGE) == Counted(0, parked=False)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_consumer_that_is_told_to_stop_counts_nothing_however_often_it_is_delivered(error: type[BaseException]) -> None:
    mine = Desk("sync", park_after=2)

    def stopped(_: MemoryTransaction) -> None:
        raise error

    for _ in range(5):
        with pytest.raises(error):
            consume(mine.inbox, mine.inbox.transaction, stopped, **MESSAGE, redelivered=True)
    assert mine.failures() == 0


async def test_a_redelivered_run_that_is_cancelled_counts_nothing() -> None:
    """Five deploys in the middle of one long message park nothing."""
    mine = Desk("async", park_after=2)

    async def cancelled(_: MemoryTransaction) -> None:
        scope.cancel()
        await checkpoint()

    for _ in range(5):
        with CancelScope() as scope:
            await aconsume(mine.ainbox, mine.ainbox.transaction, cancelled, **MESSAGE, redelivered=True)
        assert scope.cancelled_caught
    assert mine.failures() == 0


async def test_who_meets_another_at_the_same_message_counts_nothing(desk: Callable[..., Desk]) -> None:
    mine = desk(park_after=2)
    with mine.inbox.transaction() as other:
        mine.inbox.once(other, **MESSAGE)
        for _ in range(5):
            assert isinstance(await mine.deliver(redelivered=True), Underway)
        other.rollback()
    assert mine.failures() == 0


async def test_the_position_is_handed_on(desk: Callable[..., Desk]) -> None:
    mine = desk()
    await mine.deliver(entity="acct_1", position=7)
    assert mine.inbox.high_water(group="ledger", entity="acct_1") == 7
    assert not await mine.deliver(message_id="late", entity="acct_1", position=6)


def test_sync_and_async_are_told_apart_by_the_await_only() -> None:
    mine = Desk("sync")
    pending = aconsume(mine.ainbox, mine.ainbox.transaction, mine.ahandler, **MESSAGE)
    assert isawaitable(pending)
    pending.close()


# ---------------------------------------------------------------- is it awake?


def counts_refusals(inbox: MemoryInboxStore, transaction: Any, handler: Any, **message: Any) -> object:
    """A saboteur: whatever was raised, the message is to blame."""
    try:
        with transaction() as mine:
            if inbox.once(mine, **message):
                handler(mine)
    except Exception:
        inbox.failed(**message)
        raise
    return None


async def test_a_loop_that_counts_refusals_parks_good_messages_in_an_outage() -> None:
    mine = Desk("sync", park_after=2)
    mine.error = REFUSED
    for _ in range(2):
        with pytest.raises(CircuitOpenError):
            counts_refusals(mine.inbox, mine.inbox.transaction, mine.handler, **MESSAGE)
    assert len(mine.inbox.parked()) == 1  # what the law above forbids
