"""A whole evening of it: producers that overlap and roll back, a broker that fails, relays that die, four at a time, from one seed."""

from __future__ import annotations

import os
from functools import partial
from random import Random
from typing import Any

import anyio
import pytest

from finresilience.clock import ruling_clock
from finresilience.durable.memory_outbox import MemoryOutbox
from finresilience.durable.memory_outbox_async import AsyncMemoryOutbox
from finresilience.durable.outbox import FencedError
from finresilience.testing import run_virtual, turn
from finresilience.testing.contracts._relay_base import Died, Mortal
from finresilience.testing.saboteurs.outbox import RetryReordersTheKey, SkipsLateCommits
from finresilience.testing.saboteurs.relay import RetriesReorder
from tests.durable.relays import Down, Lost, event, firsts, relay_of, told

RUNS = 100 if os.environ.get("FINRESILIENCE_DEEP") else 4
RELAYS, PRODUCERS, KEYS, EACH = 4, 3, 4, 8


class Evening:
    """One run. `ledger` holds what was committed, in order; `arrived` what the broker got."""

    def __init__(self, seed: int, make: Any = MemoryOutbox, relay: Any = relay_of) -> None:
        self.chance = Random(seed)
        self.store: Any = AsyncMemoryOutbox(make(partitions=4), pause=self.network)
        self.relay = relay
        self.ledger: list[tuple[str, int]] = []
        self.arrived: list[tuple[str, int]] = []
        self.deaths = self.blips = self.stalls = 0
        self.count = 0

    async def network(self) -> None:
        """Now and then an answer takes longer than a lease: whoever waited for it is a zombie by then."""
        if self.chance.random() < 0.002:
            self.stalls += 1
            await ruling_clock().sleep(40)
        await turn()

    async def produce(self) -> None:
        for _ in range(EACH):
            await ruling_clock().sleep(self.chance.uniform(0, 20))
            transaction = self.store.transaction()
            mine: list[tuple[str, int]] = []
            for key in self.chance.sample([f"acc_{k}" for k in range(KEYS)], 2):
                self.count += 1
                self.store.add(transaction, event(key, self.count))
                mine.append((key, self.count))
                await ruling_clock().sleep(self.chance.uniform(0, 3))  # others commit meanwhile
            if self.chance.random() < 0.2:
                transaction.rollback()
            else:
                transaction.commit()
                self.ledger += mine

    async def publish(self, mortal: Mortal, row: Any) -> None:
        mortal.step()
        await ruling_clock().sleep(self.chance.uniform(0, 0.2))
        luck = self.chance.random()
        if luck < 0.1:
            raise Down
        self.arrived.append(told(row))
        if luck < 0.2:
            self.blips += 1
            raise Lost
        mortal.step()

    async def relay_for_ever(self) -> None:
        while True:
            mortal = Mortal(self.store, self.chance.randrange(20, 300))
            try:
                await self.relay(mortal, partial(self.publish, mortal), max_attempts=100, settle_every=5, concurrency=3).run()
            except FencedError:
                continue
            except BaseException as end:
                if not _died(end):
                    raise
                self.deaths += 1
                await ruling_clock().sleep(self.chance.uniform(0, 10))

    async def run(self) -> None:
        with anyio.move_on_after(1200):
            async with anyio.create_task_group() as relays:
                for _ in range(RELAYS):
                    relays.start_soon(self.relay_for_ever)
                async with anyio.create_task_group() as producers:
                    for _ in range(PRODUCERS):
                        producers.start_soon(self.produce)
                while self.store.store.statistics().pending:
                    await ruling_clock().sleep(1)
                    await turn()
                relays.cancel_scope.cancel()

    def must_balance(self) -> None:
        assert set(self.arrived) == set(self.ledger), "an event was lost, or one was told that was never committed"
        for key in {key for key, _ in self.ledger}:
            assert firsts(self.arrived, key) == [n for known, n in self.ledger if known == key], f"{key} was told out of order"
        again = len(self.arrived) - len(set(self.arrived))
        assert again <= self.blips + (self.deaths + self.stalls) * (5 + 3), "more came twice than what went wrong explains"
        assert self.store.store.statistics().dead == 0


def _died(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(_died, error.exceptions))
    return isinstance(error, Died)


def evening(seed: int, backend: Any, **more: Any) -> Evening:
    run = Evening(seed, **more)
    run_virtual(run.run, backend=backend, seed=seed)
    return run


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_whatever_fails_and_whoever_dies_the_broker_hears_all_of_it_in_order(backend: Any) -> None:
    deaths = 0
    for seed in range(RUNS):
        run = evening(seed, backend)
        run.must_balance()
        deaths += run.deaths
    assert deaths > RUNS, "nobody died: nothing was proven"


def _broken_relay(store: Any, publisher: Any, **more: Any) -> RetriesReorder:
    honest = relay_of(store, publisher, **more)
    return RetriesReorder(store, publisher, classify=honest._rules, listeners=(), chance=lambda: 0.5, lease=30.0, batch=10, **more)


@pytest.mark.parametrize(
    "more", [{"make": SkipsLateCommits}, {"make": RetryReordersTheKey}, {"relay": _broken_relay}], ids=["late", "order", "relay"]
)
def test_the_evening_notices_what_is_broken(more: dict[str, Any]) -> None:
    for seed in range(30):
        try:
            evening(seed, "asyncio", **more).must_balance()
        except AssertionError:
            return
    pytest.fail("thirty evenings went by and nobody noticed")
