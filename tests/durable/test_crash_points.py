"""The relay and the consumer die at every place that has a name, and once more in each recovery: nothing is lost, nothing done twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from finresilience.durable.amemory_inbox import AsyncMemoryInboxStore
from finresilience.durable.consuming import aconsume, consume
from finresilience.durable.memory_inbox import MemoryInboxStore
from finresilience.durable.memory_outbox import MemoryOutbox
from finresilience.durable.memory_outbox_async import AsyncMemoryOutbox
from finresilience.durable.relay import Relay
from finresilience.testing import CounterexampleError, ManualClock, VirtualClock, crash
from finresilience.testing.saboteurs import catalogue
from tests.durable.relays import RULES, committed, event, firsts, told

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.durable.messages import OutboxRow

LEASE = 30.0
ROWS = [event("acc_1", 0), event("acc_1", 1), event("acc_2", 0)]
OF_A_RELAY = ["relay.asking", "relay.heard", "relay.published"]
SETTINGS: dict[str, Any] = {"classify": RULES, "listeners": (), "chance": lambda: 0.5, "lease": LEASE, "batch": 10}


def an_evening(kind: type[Relay]) -> tuple[Callable[[], object], Callable[[], object]]:
    clock = ManualClock()
    store, arrived = MemoryOutbox(partitions=1, clock=clock), list[tuple[str, int]]()
    committed(store, *ROWS)

    def run() -> None:
        kind(store, lambda row: arrived.append(told(row)), clock=clock, **SETTINGS).run_sync(until_idle=True)

    def recover() -> None:
        for _ in range(2):  # the dead relay's lease runs out; what it may have died of waits for one more
            clock.advance(LEASE + 1)
            run()
        everything_arrived_in_order(store, arrived)

    return run, recover


def an_evening_in_a_loop() -> tuple[Callable[[], object], Callable[[], object]]:
    arrived, world = list[tuple[str, int]](), list[AsyncMemoryOutbox]()

    async def publish(row: OutboxRow) -> None:
        arrived.append(told(row))

    async def run() -> None:
        if not world:
            world.append(AsyncMemoryOutbox(MemoryOutbox(partitions=1)))
            committed(world[0], *ROWS)
        await Relay(world[0], publish, **SETTINGS).run(until_idle=True)

    async def recover() -> None:
        for _ in range(2):
            await VirtualClock.current().sleep(LEASE + 1)
            await run()
        everything_arrived_in_order(world[0], arrived)

    return run, recover


def everything_arrived_in_order(store: MemoryOutbox | AsyncMemoryOutbox, arrived: list[tuple[str, int]]) -> None:
    assert (firsts(arrived, "acc_1"), firsts(arrived, "acc_2")) == ([0, 1], [0])
    statistics: Any = store.statistics() if isinstance(store, MemoryOutbox) else None
    assert statistics is None or (statistics.pending, statistics.dead) == (0, 0)


def test_a_relay_that_dies_anywhere_and_again_in_its_recovery_loses_nothing_and_keeps_the_order() -> None:
    covered = crash.everywhere(lambda: an_evening(Relay), depth=2, must_reach=OF_A_RELAY)
    assert covered.runs > 100


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_so_it_is_in_a_loop(backend: Any) -> None:
    assert crash.everywhere(an_evening_in_a_loop, depth=2, must_reach=OF_A_RELAY, backend=backend).runs > 100


def test_a_relay_that_settles_before_it_publishes_is_caught() -> None:
    [hasty] = [row.make for row in catalogue("RelayContract") if row.name == "AcksBeforePublishing"]
    with pytest.raises(CounterexampleError, match="replay: everywhere"):
        crash.everywhere(lambda: an_evening(hasty))


# ---------------------------------------------------------------- the consumer


def a_message(fails: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """Handle a message that must lead to one more, in one transaction; its handler fails so often before it works."""
    clock = ManualClock()
    inbox, outbox = MemoryInboxStore(clock=clock, park_after=10), MemoryOutbox(clock=clock)
    tries = [0]

    def handle(mine: Any) -> None:
        tries[0] += 1
        outbox.add(mine, event())
        if tries[0] <= fails:
            raise ValueError

    def deliver(*, redelivered: bool = False) -> None:
        try:
            consume(inbox, inbox.transaction, handle, group="ledger", message_id="msg_1", redelivered=redelivered)
        except ValueError:
            deliver(redelivered=True)

    def recover() -> None:
        deliver(redelivered=True)
        assert outbox.statistics().pending == 1

    return deliver, recover


def a_message_in_a_loop() -> tuple[Callable[[], object], Callable[[], object]]:
    clock = ManualClock()
    inbox, outbox = MemoryInboxStore(clock=clock, park_after=10), MemoryOutbox(clock=clock)
    mine = AsyncMemoryInboxStore(inbox)

    async def handle(transaction: Any) -> None:
        outbox.add(transaction, event())

    async def deliver() -> None:
        await aconsume(mine, mine.transaction, handle, group="ledger", message_id="msg_1")

    async def recover() -> None:
        await deliver()
        assert outbox.statistics().pending == 1

    return deliver, recover


def test_a_message_whose_consumer_dies_anywhere_has_its_effect_once() -> None:
    points = ["inbox.handled", "inbox.committed", "inbox.rolled_back"]
    assert crash.everywhere(lambda: a_message(fails=1), depth=2, must_reach=points).runs > 5


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_so_has_one_that_is_awaited(backend: Any) -> None:
    crash.everywhere(a_message_in_a_loop, depth=2, must_reach=["inbox.handled", "inbox.committed"], backend=backend)
