"""Three clients of one key and of one message, in every order there is: a proof, not a sample. And threads, between any two lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from finresilience.durable.amemory_idempotency import AsyncMemoryIdempotencyStore
from finresilience.durable.amemory_inbox import AsyncMemoryInboxStore
from finresilience.durable.errors import StaleTokenError
from finresilience.durable.memory_idempotency import MemoryIdempotencyStore
from finresilience.durable.memory_inbox import MemoryInboxStore
from finresilience.durable.records import Claimed, InProgress, KeyState, Replay
from finresilience.durable.seen import Duplicate, Fresh, Underway
from finresilience.testing import CounterexampleError, ManualClock, exhaust, explore_threads, turn
from finresilience.testing.saboteurs.idempotency import CheckThenAct
from finresilience.testing.saboteurs.idempotency_leases import ForgetsTheFence

if TYPE_CHECKING:
    from finresilience.testing import Story

LEASE = 60.0


def keys(store: MemoryIdempotencyStore) -> AsyncMemoryIdempotencyStore:
    return AsyncMemoryIdempotencyStore(store, pause=turn)


async def claim(store: AsyncMemoryIdempotencyStore) -> Any:
    return await store.claim("acme", "pay_1", fingerprint="50 USD", lease=LEASE)


def three_callers_of_one_payment(clients: int) -> Story:
    store, effects, told = keys(MemoryIdempotencyStore(clock=ManualClock())), list[int](), list[object]()

    async def caller(number: int) -> None:
        answer = await claim(store)
        if isinstance(answer, Claimed):
            effects.append(number)
            await turn()  # the provider
            await store.complete(answer.token, b"receipt %d" % number)
        else:
            told.append(answer)

    def one_effect_and_one_answer() -> None:
        assert len(effects) == 1
        assert all(isinstance(answer, InProgress | Replay) for answer in told)
        replays = {answer.record.response for answer in told if isinstance(answer, Replay)}
        assert replays <= {b"receipt %d" % effects[0]}

    return [caller(number) for number in range(clients)], one_effect_and_one_answer


def test_three_callers_of_one_payment_have_one_effect_in_every_order() -> None:
    assert exhaust(three_callers_of_one_payment, clients=3).schedules > 50


def heirs_and_a_late_finisher(clients: int, store: type[MemoryIdempotencyStore] = MemoryIdempotencyStore) -> Story:
    clock = ManualClock()
    inner = store(clock=clock)
    late = inner.claim("acme", "pay_1", fingerprint="50 USD", lease=LEASE)
    assert isinstance(late, Claimed)
    clock.advance(LEASE)
    shared, stored, refused = keys(inner), list[bytes](), list[str]()

    async def finisher() -> None:
        try:
            await shared.complete(late.token, b"late")
            stored.append(b"late")
        except StaleTokenError:
            refused.append("late")

    async def heir(name: bytes) -> None:
        answer = await claim(shared)
        if isinstance(answer, Claimed):
            assert answer.takeovers == 1
            await shared.complete(answer.token, name)
            stored.append(name)

    def one_answer_was_stored_and_stays() -> None:
        assert len(stored) == 1
        record = inner.find("acme", "pay_1")
        assert record is not None
        assert (record.state, record.response) == (KeyState.COMPLETED, stored[0])
        assert refused == ([] if stored == [b"late"] else ["late"])

    return [finisher(), *(heir(b"heir %d" % number) for number in range(clients - 1))], one_answer_was_stored_and_stays


def test_a_late_finisher_cannot_overwrite_its_heir_in_any_order() -> None:
    assert exhaust(heirs_and_a_late_finisher, clients=3).schedules > 50


def test_a_store_that_forgets_the_fence_is_caught() -> None:
    def forgetful(clients: int) -> Story:
        return heirs_and_a_late_finisher(clients, ForgetsTheFence)

    with pytest.raises(CounterexampleError):
        exhaust(forgetful, clients=3)


def three_transactions_of_one_key(clients: int) -> Story:
    inner = MemoryIdempotencyStore(clock=ManualClock())
    store, committed = keys(inner), list[int]()

    async def caller(number: int) -> None:
        won = False
        try:
            async with store.transaction() as mine:
                answer = await store.claim("acme", "pay_1", fingerprint="50 USD", lease=LEASE, within=mine)
                if won := isinstance(answer, Claimed):
                    await store.complete(answer.token, b"%d" % number, within=mine)
                    if number == 0:
                        raise RuntimeError  # the first caller's own work fails: all of it is taken back
        except RuntimeError:
            return
        if won:
            committed.append(number)

    def what_committed_is_what_replays() -> None:
        record = inner.find("acme", "pay_1")
        assert len(committed) <= 1
        assert (record and record.response) == (b"%d" % committed[0] if committed else None)

    return [caller(number) for number in range(clients)], what_committed_is_what_replays


def test_three_transactions_of_one_key_commit_at_most_one_effect_in_every_order() -> None:
    assert exhaust(three_transactions_of_one_key, clients=3).schedules > 50


def three_deliveries_of_one_message(clients: int) -> Story:
    inner = MemoryInboxStore(clock=ManualClock(), park_after=3)
    inbox, effects, told = AsyncMemoryInboxStore(inner, pause=turn), list[int](), list[object]()

    async def consumer(number: int) -> None:
        async with inbox.transaction() as mine:
            seen = await inbox.once(mine, group="ledger", message_id="msg_1", delivery_id=str(number))
            if seen:
                await turn()  # the work
        if seen:
            effects.append(number)
        told.append(seen)

    def it_is_handled_once() -> None:
        assert len(effects) == 1
        assert all(isinstance(seen, Fresh | Duplicate | Underway) for seen in told)
        with inner.transaction() as mine:
            assert isinstance(inner.once(mine, group="ledger", message_id="msg_1"), Duplicate)

    return [consumer(number) for number in range(clients)], it_is_handled_once


def test_three_deliveries_of_one_message_have_one_effect_in_every_order() -> None:
    assert exhaust(three_deliveries_of_one_message, clients=3).schedules > 50


def poison_and_its_consumers(clients: int) -> Story:
    inner = MemoryInboxStore(clock=ManualClock(), park_after=9)
    inbox, runs = AsyncMemoryInboxStore(inner, pause=turn), list[int]()

    async def consumer(number: int) -> None:
        try:
            async with inbox.transaction() as mine:
                if await inbox.once(mine, group="ledger", message_id="poison"):
                    runs.append(number)
                    raise RuntimeError
        except RuntimeError:
            await inbox.failed(group="ledger", message_id="poison", reason="RuntimeError")

    def each_run_is_counted_though_each_was_rolled_back() -> None:
        counted = inner.failed(group="ledger", message_id="poison")
        assert counted.failures == len(runs) + 1

    return [consumer(number) for number in range(clients)], each_run_is_counted_though_each_was_rolled_back


def test_poison_is_counted_in_every_order() -> None:
    assert exhaust(poison_and_its_consumers, clients=3).schedules > 50


# ---------------------------------------------------------------- threads


def three_threads_of_one_payment(store: type[MemoryIdempotencyStore] = MemoryIdempotencyStore) -> Any:
    keys, effects = store(clock=ManualClock()), list[str]()

    def caller() -> None:
        answer = keys.claim("acme", "pay_1", fingerprint="50 USD", lease=LEASE)
        if isinstance(answer, Claimed):
            effects.append("charged")
            keys.complete(answer.token, b"receipt")

    def one_effect() -> None:
        assert effects == ["charged"]

    return [caller] * 3, one_effect


def test_three_threads_of_one_payment_have_one_effect() -> None:
    assert explore_threads(three_threads_of_one_payment, seeds=100).distinct > 90


def test_a_store_that_checks_and_then_acts_is_caught_by_threads() -> None:
    from finresilience.testing.saboteurs import idempotency

    with pytest.raises(CounterexampleError):
        explore_threads(lambda: three_threads_of_one_payment(CheckThenAct), seeds=100, modules=[idempotency])


def two_transactions_and_a_purge() -> Any:
    inbox, effects = MemoryInboxStore(clock=ManualClock()), list[str]()

    def consumer() -> None:
        with inbox.transaction() as mine:
            seen = inbox.once(mine, group="ledger", message_id="msg_1", entity="acct_1", position=7)
        if seen:
            effects.append("booked")

    def counter() -> None:
        inbox.failed(group="ledger", message_id="msg_1")

    def one_effect_and_its_mark() -> None:
        assert effects == ["booked"]
        assert inbox.high_water(group="ledger", entity="acct_1") == 7

    return [consumer, consumer, counter], one_effect_and_its_mark


def test_threads_of_one_message_have_one_effect() -> None:
    assert explore_threads(two_transactions_and_a_purge, seeds=100).distinct > 90
