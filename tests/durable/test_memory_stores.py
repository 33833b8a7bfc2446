"""What the memory stores keep beside the contracts: bounds, clocks, cancellation, transactions that are shared or forgotten."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from finresilience import ConfigurationError, RefusedError
from finresilience.durable.amemory_idempotency import AsyncMemoryIdempotencyStore
from finresilience.durable.amemory_inbox import AsyncMemoryInboxStore
from finresilience.durable.errors import FinishedOtherwiseError, StaleRecordError, StaleTokenError, StoreBusyError, StoreFullError
from finresilience.durable.memory_idempotency import MemoryIdempotencyStore
from finresilience.durable.memory_inbox import MemoryInboxStore
from finresilience.durable.memory_transaction import MemoryTransaction
from finresilience.durable.records import Claimed, ClaimToken, Indeterminate, InProgress, KeyState, Record, Replay
from finresilience.durable.seen import Fresh, Underway
from finresilience.testing import ManualClock, instant
from tests.durable.forks import a_forked_child_may

if TYPE_CHECKING:
    from finresilience.durable.idempotency import AsyncIdempotencyStore, IdempotencyStore
    from finresilience.durable.inbox import AsyncInboxStore, InboxStore

KEY: dict[str, Any] = {"fingerprint": "50 USD", "lease": 60.0}


def token(store: MemoryIdempotencyStore, key: str = "pay_1", **more: Any) -> ClaimToken:
    told = store.claim("acme", key, **{**KEY, **more})
    assert isinstance(told, Claimed)
    return told.token


def still(**more: Any) -> MemoryIdempotencyStore:
    return MemoryIdempotencyStore(clock=ManualClock(), **more)


# ---------------------------------------------------------------- bounds


def test_a_store_that_is_full_refuses_and_still_finishes_what_it_holds() -> None:
    store = still(at_most=2)
    first, _ = token(store, "a"), token(store, "b")
    with pytest.raises(StoreFullError, match="2 idempotency keys"):
        store.claim("acme", "c", **KEY)
    store.complete(first, b"paid")
    store.purge(older_than=0)
    token(store, "c")


def test_a_full_store_refuses_as_we_refuse_so_that_no_breaker_counts_it() -> None:
    assert issubclass(StoreFullError, RefusedError)
    assert issubclass(StoreBusyError, RefusedError)


def test_a_claim_in_an_open_transaction_takes_room_until_it_is_taken_back() -> None:
    store = still(at_most=1)
    with store.transaction() as mine:
        token(store, "a", within=mine)
        with pytest.raises(StoreFullError):
            store.claim("acme", "b", **KEY)
        mine.rollback()
    token(store, "b")


def test_a_transaction_that_was_forgotten_takes_no_room() -> None:
    store = still(at_most=1)
    forgotten = store.transaction()
    token(store, "a", within=forgotten)
    del forgotten
    gc.collect()
    token(store, "b")


def test_an_inbox_that_is_full_refuses() -> None:
    inbox = MemoryInboxStore(clock=ManualClock(), at_most=1)
    with inbox.transaction() as mine:
        assert inbox.once(mine, group="ledger", message_id="a")
        with pytest.raises(StoreFullError):
            inbox.once(mine, group="ledger", message_id="b")
    inbox.failed(group="ledger", message_id="x")
    with pytest.raises(StoreFullError):
        inbox.failed(group="ledger", message_id="y")


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "7", None])
def test_bounds_are_checked(wrong: Any) -> None:
    for make in (
        lambda: MemoryIdempotencyStore(at_most=wrong),
        lambda: MemoryIdempotencyStore(max_response=wrong),
        lambda: MemoryInboxStore(at_most=wrong),
        lambda: MemoryInboxStore(park_after=wrong),
    ):
        with pytest.raises(ConfigurationError):
            make()


@pytest.mark.parametrize("wrapper", [AsyncMemoryIdempotencyStore, AsyncMemoryInboxStore])
def test_an_async_store_wraps_its_own_kind_only(wrapper: Any) -> None:
    with pytest.raises(ConfigurationError, match="store="):
        wrapper(object())


# ---------------------------------------------------------------- clocks


def test_a_store_without_a_clock_follows_the_one_that_rules() -> None:
    store, inbox = MemoryIdempotencyStore(), MemoryInboxStore()
    with instant() as clock:
        token(store)
        with inbox.transaction() as mine:
            inbox.once(mine, group="ledger", message_id="a")
        clock.advance(59)
        assert store.claim("acme", "pay_1", **KEY) == InProgress(1.0)
        clock.advance(1)
        assert isinstance(store.claim("acme", "pay_1", **KEY), Claimed)
        assert inbox.purge(older_than=60) == 1


def test_a_lease_may_be_a_timedelta() -> None:
    store = still()
    told = store.claim("acme", "pay_1", fingerprint="f", lease=timedelta(minutes=2))
    assert isinstance(told, Claimed)
    assert told.lease == 120.0
    store.renew(told.token, lease=timedelta(minutes=1))
    assert store.claim("acme", "pay_1", fingerprint="f", lease=1) == InProgress(60.0)


# ---------------------------------------------------------------- transactions


def test_an_effect_its_key_and_its_marker_are_one_transaction_over_two_stores() -> None:
    keys, inbox = still(), MemoryInboxStore(clock=ManualClock())
    for commits in (False, True):
        with MemoryTransaction() as both:
            mine = token(keys, within=both)
            keys.complete(mine, b"paid", within=both)
            assert inbox.once(both, group="ledger", message_id="msg_1")
            if not commits:
                both.rollback()
        assert (keys.find("acme", "pay_1") is not None) is commits
        with inbox.transaction() as mine_too:
            assert bool(inbox.once(mine_too, group="ledger", message_id="msg_1")) is not commits
            mine_too.rollback()


def test_a_transaction_that_is_forgotten_is_as_good_as_rolled_back() -> None:
    store, inbox = still(), MemoryInboxStore(clock=ManualClock())
    forgotten = store.transaction()
    token(store, within=forgotten)
    inbox.once(forgotten, group="ledger", message_id="a")
    assert isinstance(store.claim("acme", "pay_1", **KEY), InProgress)
    with inbox.transaction() as mine:
        assert isinstance(inbox.once(mine, group="ledger", message_id="a"), Underway)
    del forgotten
    gc.collect()
    token(store)
    with inbox.transaction() as mine:
        assert inbox.once(mine, group="ledger", message_id="a") == Fresh()


def test_who_writes_a_row_that_a_transaction_holds_is_told_that_it_is_busy() -> None:
    store = still()
    held = token(store)
    with store.transaction() as mine:
        store.advance(held, "sent", within=mine)
        deeds: tuple[Any, ...] = (lambda: store.complete(held, b"paid"), lambda: store.renew(held, lease=1), lambda: store.release(held))
        for deed in deeds:
            with pytest.raises(StoreBusyError, match="Nothing was written"):
                deed()
    store.complete(held, b"paid")


def test_a_purge_passes_over_what_a_transaction_holds() -> None:
    store, inbox = still(), MemoryInboxStore(clock=ManualClock())
    seen = token(store)
    store.mark_indeterminate(seen)
    told = store.claim("acme", "pay_1", **KEY)
    assert isinstance(told, Indeterminate)
    with store.transaction() as mine:
        store.resolve(told.record, KeyState.COMPLETED, b"", evidence="inquiry", within=mine)
        assert store.purge(older_than=0) == 0
        assert not store.unsettled()
    assert store.purge(older_than=0) == 1
    with inbox.transaction() as mine:
        inbox.once(mine, group="ledger", message_id="a")
        assert inbox.purge(older_than=0) == 0


@pytest.mark.parametrize("wrong", [object(), 7, "tx", True])
def test_what_is_no_transaction_is_refused(wrong: Any) -> None:
    store, inbox = still(), MemoryInboxStore()
    with pytest.raises(ConfigurationError, match="within="):
        store.claim("acme", "pay_1", **KEY, within=wrong)
    with pytest.raises(ConfigurationError, match="within="):
        inbox.once(wrong, group="ledger", message_id="a")


def test_a_transaction_that_is_over_is_refused() -> None:
    store, inbox = still(), MemoryInboxStore()
    with store.transaction() as over:
        pass
    with pytest.raises(ConfigurationError, match="over"):
        store.claim("acme", "pay_1", **KEY, within=over)
    with pytest.raises(ConfigurationError, match="over"):
        inbox.once(over, group="ledger", message_id="a")
    assert store.find("acme", "pay_1") is None


def test_a_deed_that_is_refused_in_a_transaction_leaves_its_other_deeds() -> None:
    store = still()
    late = token(store, "late")
    store.release(late)
    with store.transaction() as mine:
        good = token(store, "good", within=mine)
        with pytest.raises(StaleTokenError):
            store.complete(late, b"late", within=mine)
        store.complete(good, b"paid", within=mine)
    assert isinstance(store.claim("acme", "good", **KEY), Replay)


def test_a_forked_child_does_not_wait_for_a_thread_that_it_does_not_have() -> None:
    a_forked_child_may("store.claim('acme', 'pay_1', fingerprint='f', lease=1)", "MemoryIdempotencyStore")


# ---------------------------------------------------------------- async


async def test_an_async_call_that_is_cancelled_has_done_nothing() -> None:
    inner = still()
    store = AsyncMemoryIdempotencyStore(inner)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await store.claim("acme", "pay_1", **KEY)
    assert inner.find("acme", "pay_1") is None


async def test_threads_and_tasks_share_one_store() -> None:
    inner = still()
    store = AsyncMemoryIdempotencyStore(inner)
    told = await store.claim("acme", "pay_1", **KEY)
    assert isinstance(told, Claimed)
    assert isinstance(inner.claim("acme", "pay_1", **KEY), InProgress)
    inner.complete(told.token, b"paid")
    assert isinstance(await store.claim("acme", "pay_1", **KEY), Replay)


async def test_a_cancelled_transaction_is_taken_back() -> None:
    store = AsyncMemoryIdempotencyStore(still())
    with anyio.CancelScope() as scope:
        async with store.transaction() as mine:
            await store.claim("acme", "pay_1", **KEY, within=mine)
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert await store.find("acme", "pay_1") is None


# ---------------------------------------------------------------- values


def test_memory_stores_are_what_the_protocols_say() -> None:
    keys: IdempotencyStore[MemoryTransaction] = MemoryIdempotencyStore()
    akeys: AsyncIdempotencyStore[MemoryTransaction] = AsyncMemoryIdempotencyStore()
    inbox: InboxStore[MemoryTransaction] = MemoryInboxStore()
    ainbox: AsyncInboxStore[MemoryTransaction] = AsyncMemoryInboxStore()
    assert keys.max_response == akeys.max_response == 1 << 20
    assert inbox.park_after == ainbox.park_after == 5


def test_a_buffer_is_copied_when_it_is_stored() -> None:
    store, buffer = still(), bytearray(b"paid")
    view: Any = memoryview(buffer)
    store.complete(token(store), view)
    buffer[:] = b"void"
    told = store.claim("acme", "pay_1", **KEY)
    assert isinstance(told, Replay)
    assert told.record.response == b"paid"


@pytest.mark.parametrize("thing", [None, 7, "token", ("acme", "pay_1", 1)])
def test_what_is_no_token_and_no_record_is_refused(thing: Any) -> None:
    store = still()
    deeds: tuple[Any, ...] = (store.release, store.mark_indeterminate, partial(store.complete, response=b""), partial(store.renew, lease=1))
    for deed in deeds:
        with pytest.raises(ConfigurationError, match="token"):
            deed(thing)
    with pytest.raises(ConfigurationError, match="record"):
        store.resolve(thing, KeyState.COMPLETED, b"", evidence="inquiry")


def test_tokens_and_records_travel() -> None:
    store = still()
    held = token(store)
    record = store.find("acme", "pay_1")
    assert pickle.loads(pickle.dumps(held)) == held
    assert pickle.loads(pickle.dumps(record)) == record
    store.complete(pickle.loads(pickle.dumps(held)), b"paid")


def test_a_record_cannot_be_changed() -> None:
    store = still()
    token(store)
    record: Any = store.find("acme", "pay_1")
    assert type(record) is Record
    with pytest.raises(AttributeError):
        setattr(record, "state", KeyState.COMPLETED)  # noqa: B010 - a type checker must not see it


def test_each_error_says_what_is_true_and_what_to_do() -> None:
    for error, what in (
        (StaleTokenError("complete", 3, "the key is in_progress under fencing token 4"), "fencing token 3"),
        (FinishedOtherwiseError("complete", "completed"), "first answer stays"),
        (StaleRecordError("completed"), "Read it again"),
        (StoreBusyError(), "Ask again"),
        (StoreFullError("idempotency keys", 2), "Purge"),
    ):
        assert what in str(error)
        assert "othing was " in str(error) or "stays" in str(error)
        again = pickle.loads(pickle.dumps(error))
        assert str(again) == str(error)


def test_the_room_imports_nothing_until_a_name_is_used() -> None:
    script = (
        "import sys; import finresilience.durable as durable; before = set(sys.modules);"
        "assert not [name for name in before if name.startswith('finresilience.durable.')];"
        "durable.MemoryIdempotencyStore; durable.IdempotencyStore; durable.MemoryInboxStore; durable.consume;"
        "heavy = {'anyio', 'asyncio', 'trio', 'hypothesis', 'pytest', 'finresilience.testing'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_every_public_name_of_the_room_is_there() -> None:
    from finresilience import durable

    assert durable.__all__ == sorted(durable.__all__)
    for name in durable.__all__:
        assert getattr(durable, name) is not None
    with pytest.raises(AttributeError, match="no attribute"):
        _ = durable.nothing
