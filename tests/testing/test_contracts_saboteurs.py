"""Is the contract awake? Each saboteur dies by the law that is named for it, each law kills one, and the honest store lives."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from finresilience.durable.memory_idempotency import MemoryIdempotencyStore
from finresilience.durable.memory_inbox import MemoryInboxStore
from finresilience.testing import contracts, saboteurs
from finresilience.testing.contracts import BrokenLawError

HONEST: dict[str, Any] = {"IdempotencyStoreContract": MemoryIdempotencyStore, "InboxContract": MemoryInboxStore}
ROWS = [row for row in saboteurs.catalogue() if row.contract in HONEST]


def made(store: Any, clock: object) -> Any:
    return store(clock=clock)


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_each_saboteur_is_killed_by_the_law_that_is_named_for_it(row: saboteurs.Row) -> None:
    contract = getattr(contracts, row.contract)
    longer = type(row.contract, (contract,), {"examples": 300})  # chance must not decide whether a saboteur of the model dies
    broken = contracts.run(longer, partial(made, row.make), laws=[row.law])
    failure = broken[row.law]
    assert isinstance(failure, BrokenLawError)
    assert failure.law == row.law
    assert isinstance(failure.__cause__, AssertionError) or "Stale" in type(failure.__cause__).__name__, repr(failure.__cause__)


@pytest.mark.parametrize("name", HONEST)
def test_the_honest_store_lives(name: str) -> None:
    told = contracts.run(getattr(contracts, name), partial(made, HONEST[name]))
    assert len(told) > 15
    assert not any(told.values())


@pytest.mark.parametrize("name", HONEST)
def test_each_law_kills_a_saboteur(name: str) -> None:
    asleep = contracts.laws(getattr(contracts, name)).keys() - {row.law for row in saboteurs.catalogue(name)}
    assert not asleep
