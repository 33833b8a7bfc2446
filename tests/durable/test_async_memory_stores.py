"""The three async memory stores are made alike: from a store of yours, or from nothing, with a pause and a clock."""

from __future__ import annotations

from typing import Any

import pytest

from finresilience.durable.amemory_idempotency import AsyncMemoryIdempotencyStore
from finresilience.durable.amemory_inbox import AsyncMemoryInboxStore
from finresilience.durable.memory_idempotency import MemoryIdempotencyStore
from finresilience.durable.memory_inbox import MemoryInboxStore
from finresilience.durable.memory_outbox import MemoryOutbox
from finresilience.durable.memory_outbox_async import AsyncMemoryOutbox
from finresilience.errors import ConfigurationError
from finresilience.testing.clock import ManualClock

KINDS: list[Any] = [
    (AsyncMemoryIdempotencyStore, MemoryIdempotencyStore),
    (AsyncMemoryInboxStore, MemoryInboxStore),
    (AsyncMemoryOutbox, MemoryOutbox),
]
each = pytest.mark.parametrize(("kind", "behind"), KINDS, ids=["keys", "inbox", "outbox"])


@each
def test_the_store_behind_is_the_one_that_was_given(kind: Any, behind: Any) -> None:
    given = behind()
    assert kind(given).store is given
    assert kind(store=given).store is given


@each
def test_from_nothing_a_new_store_is_made_by_the_clock(kind: Any, behind: Any) -> None:
    clock = ManualClock(start=7.0)
    made = kind(clock=clock).store
    assert type(made) is behind
    assert made._clock is clock
    assert kind().store is not kind().store


@each
async def test_it_pauses_before_it_does_anything(kind: Any, behind: Any) -> None:
    pauses: list[int] = []

    async def pause() -> None:
        pauses.append(1)

    store = kind(behind(), pause=pause)
    await store.purge(older_than=1.0)
    assert pauses == [1]


@each
@pytest.mark.parametrize("thing", ["store", 7, object()])
def test_what_is_no_such_store_is_refused(kind: Any, behind: Any, thing: object) -> None:
    with pytest.raises(ConfigurationError, match=rf"^store=.*{behind.__name__}"):
        kind(thing)


@each
def test_a_store_has_a_clock_already_and_another_is_refused(kind: Any, behind: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^clock="):
        kind(behind(), clock=ManualClock())
