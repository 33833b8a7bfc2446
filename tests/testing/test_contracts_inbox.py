"""The contract of inboxes: our own keep it, on threads, asyncio and trio."""

from __future__ import annotations

import os

import pytest

from finresilience.durable.amemory_inbox import AsyncMemoryInboxStore
from finresilience.durable.memory_inbox import MemoryInboxStore
from finresilience.testing import ManualClock, contracts

DEEP = bool(os.environ.get("FINRESILIENCE_DEEP"))
EXAMPLES, SCHEDULES = (1_000, 300) if DEEP else (60, 15)


class TestTheMemoryInbox(contracts.InboxContract):
    examples, schedules = EXAMPLES, SCHEDULES

    def make_store(self) -> MemoryInboxStore:
        return MemoryInboxStore(clock=self.clock)


class TestTheAsyncMemoryInbox(contracts.InboxContract):
    examples, schedules = EXAMPLES // 3, SCHEDULES  # two backends, and a hop between threads for each step

    def make_store(self) -> AsyncMemoryInboxStore:
        return AsyncMemoryInboxStore(MemoryInboxStore(clock=self.clock, park_after=4))


@pytest.mark.parametrize("park_after", [2, 3, 50])
def test_an_inbox_that_parks_sooner_or_later_keeps_the_laws(park_after: int) -> None:
    def make(clock: ManualClock) -> MemoryInboxStore:
        return MemoryInboxStore(clock=clock, park_after=park_after)

    assert not any(contracts.run(contracts.InboxContract, make).values())


def parks_at_once() -> MemoryInboxStore:
    return MemoryInboxStore(park_after=1)


def test_an_inbox_that_parks_at_once_is_told_what_to_do() -> None:
    with pytest.raises(contracts.ContractError, match="park_after of 2 or more"):
        contracts.run(contracts.InboxContract, parks_at_once)
