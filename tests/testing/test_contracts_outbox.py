"""The contract of outboxes, held against the reference stores, as a stranger would hold it against theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from finresilience.durable.memory_outbox import MemoryOutbox
from finresilience.durable.memory_outbox_async import AsyncMemoryOutbox
from finresilience.testing import contracts, saboteurs
from finresilience.testing.contracts import OutboxStoreContract

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.testing import ManualClock


class TestMemoryOutbox(OutboxStoreContract):
    def make_store(self) -> MemoryOutbox:
        return MemoryOutbox(clock=self.clock, partitions=4)


class TestMemoryOutboxWithOnePartition(OutboxStoreContract):
    def make_store(self) -> MemoryOutbox:
        return MemoryOutbox(clock=self.clock, partitions=1)


class TestAsyncMemoryOutbox(OutboxStoreContract):
    async def make_store(self) -> AsyncMemoryOutbox:
        return AsyncMemoryOutbox(MemoryOutbox(clock=self.clock, partitions=4))


# --- are the laws awake? -----------------------------------------------------------------------------------------------

ROWS = saboteurs.catalogue("OutboxStoreContract")


def made_by(store: type[MemoryOutbox]) -> Callable[[ManualClock], MemoryOutbox]:
    return lambda clock: store(clock=clock, partitions=4)


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_each_known_bad_outbox_is_killed_by_its_law(row: saboteurs.Row) -> None:
    told = contracts.run(OutboxStoreContract, made_by(row.make), laws=[row.law])
    assert isinstance(told[row.law], contracts.BrokenLawError), f"{row.law} is asleep: {row.name} passed it"
    assert row.name in str(told[row.law])


def test_the_laws_kill_every_known_bad_outbox_and_spare_the_good_one() -> None:
    assert not any(contracts.run(OutboxStoreContract, made_by(MemoryOutbox)).values())
    assert len(ROWS) >= 12
