"""The contract of relays, held against ours over the reference stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from finresilience.durable.memory_outbox import MemoryOutbox
from finresilience.durable.memory_outbox_async import AsyncMemoryOutbox
from finresilience.durable.relay import Relay
from finresilience.durable.relay_core import RelayCore
from finresilience.testing import contracts, saboteurs
from finresilience.testing.contracts import RelayContract
from finresilience.testing.contracts._relay_base import RULES

if TYPE_CHECKING:
    from finresilience.durable.relay_steps import RelaySettings


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


class AllAtOnce(RelayCore):
    """Publishes as many rows at once as it has."""

    def __init__(self, settings: RelaySettings, **more: Any) -> None:
        settings.concurrency = 10_000
        super().__init__(settings, **more)


def test_a_relay_that_floods_its_broker_is_killed_where_rows_can_be_published_at_once() -> None:
    class Flood(Relay):
        core = AllAtOnce

    name = "test_the_broker_is_given_no_more_at_once_than_was_said"
    assert "rows were on their way at once" in str(contracts.run(over_memory(Flood, is_async=True), laws=[name])[name])


def test_each_law_of_relays_that_a_saboteur_can_break_has_one() -> None:
    common = {"test_the_broker_is_given_no_more_at_once_than_was_said"}  # above: a sync relay has one row on its way
    told_by_others = {  # what breaks them breaks a law that has one, or our own settings would refuse it
        "test_a_batch_that_may_outlast_its_lease_is_refused",
        "test_an_heir_of_a_dead_relay_goes_on_in_order",
        "test_of_many_relays_each_row_is_published_by_one",
        "test_relays_and_producers_together_lose_nothing",
        "test_what_is_committed_is_published_once_and_in_order",
    }
    assert contracts.laws(RelayContract).keys() - {row.law for row in ROWS} == common | told_by_others


def test_there_are_enough_of_them_and_the_good_relay_lives_in_their_place() -> None:
    assert len(ROWS) >= 12
    assert not any(contracts.run(over_memory(Relay, is_async=False)).values())
