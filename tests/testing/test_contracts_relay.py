"""The contract of relays, held against ours over the reference stores."""

from __future__ import annotations

from typing import Any

import pytest

from finresilience.durable.memory_outbox import MemoryOutbox
from finresilience.durable.memory_outbox_async import AsyncMemoryOutbox
from finresilience.durable.relay import Relay
from finresilience.testing import contracts, saboteurs
from finresilience.testing.contracts import RelayContract
from finresilience.testing.contracts._relay_base import RULES


class TestRelay(RelayContract):
    def make_store(self) -> MemoryOutbox:
        return MemoryOutbox(clock=self.clock, partitions=2)


class TestAsyncRelay(RelayContract):
    async def make_store(self) -> AsyncMemoryOutbox:
        return AsyncMemoryOutbox(MemoryOutbox(clock=self.clock, partitions=2))


# --- are the laws awake? -----------------------------------------------------------------------------------------------

ROWS = saboteurs.catalogue("RelayContract")


def over_memory(relay: type[Relay], *, is_async: bool) -> type[RelayContract]:
    class Held(RelayContract):
        def make_store(self) -> MemoryOutbox | AsyncMemoryOutbox:
            store = MemoryOutbox(clock=self.clock, partitions=2)
            return AsyncMemoryOutbox(store) if is_async else store

        def make_relay(self, store: Any, publisher: Any, **numbers: Any) -> Any:
            self.wanted = super().make_relay(store, publisher, **numbers).settings
            plain = {name: getattr(self.wanted, name) for name in ("lease", "batch", "concurrency", "settle_every", "publish_timeout")}
            more: Any = plain | {"max_attempts": self.wanted.max_attempts} | numbers
            return relay(store, publisher, clock=self.clock, chance=lambda: 0.5, classify=RULES, listeners=(), **more)

    return Held


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_each_known_bad_relay_is_killed_by_its_law(row: saboteurs.Row, is_async: bool) -> None:
    told = contracts.run(over_memory(row.make, is_async=is_async), laws=[row.law])
    assert isinstance(told[row.law], contracts.BrokenLawError), f"{row.law} is asleep: {row.name} passed it"


def test_there_are_enough_of_them_and_the_good_relay_lives_in_their_place() -> None:
    assert len(ROWS) >= 12
    assert not any(contracts.run(over_memory(Relay, is_async=False)).values())
