"""The outbox in memory: every interleaving of small worlds, bounds, and one transaction over several stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from finresilience.durable.errors import StoreFullError
from finresilience.durable.memory_outbox import MemoryOutbox
from finresilience.durable.memory_outbox_async import AsyncMemoryOutbox
from finresilience.durable.memory_transaction import MemoryTransaction, TransactionState
from finresilience.durable.outbox import DuplicateMessageError, FencedError, LeaseTerms
from finresilience.errors import ConfigurationError
from finresilience.testing import ManualClock, exhaust, turn
from finresilience.testing.saboteurs.outbox import NoKeyLock, SettlesById, SkipsLateCommits, TwoOwners
from tests.durable.forks import a_forked_child_may
from tests.durable.relays import committed, event, told

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.durable.outbox import PartitionLease
    from finresilience.testing import Story

ONE = event(n=1)  # made once: the worlds are many
TERMS = LeaseTerms(lease=30.0, window=10)


# --- every interleaving --------------------------------------------------------------------------------------------------


def producers_and_a_reader(make: Callable[..., MemoryOutbox]) -> Callable[[int], Story]:
    """Three producers add to one key and a neighbour and commit, while a relay looks twice."""

    def scenario(clients: int) -> Story:
        store = make(partitions=1, clock=ManualClock())
        [lease] = store.claim("relay", at_most=1, terms=TERMS).leases
        commits: list[int] = []
        seen: list[tuple[str, int]] = []

        def producer(n: int) -> list[Callable[[], object]]:
            transaction = store.transaction()

            def add() -> None:
                store.add(transaction, event("acc_1", n))
                store.add(transaction, event(f"own_{n}", n))

            def commit() -> None:
                commits.append(n)
                transaction.commit()

            return [add, commit]

        def look() -> None:
            rows = store.fetch(lease, limit=10).rows
            seen.extend(told(row) for row in rows)
            store.settle(lease, [row.seq for row in rows])

        def nothing_is_lost_and_the_order_is_that_of_the_commits() -> None:
            look()
            assert [n for key, n in seen if key == "acc_1"] == commits
            assert sorted(n for key, n in seen if key != "acc_1") == list(range(clients))

        return [*[producer(n) for n in range(clients)], [look, look]], nothing_is_lost_and_the_order_is_that_of_the_commits

    return scenario


def test_whatever_the_order_of_adding_committing_and_looking_a_key_is_read_in_the_order_of_its_commits() -> None:
    assert exhaust(producers_and_a_reader(MemoryOutbox), clients=3).schedules == 2520


@pytest.mark.parametrize("broken", [SkipsLateCommits, NoKeyLock])
def test_the_interleavings_kill_an_outbox_that_skips_or_turns_round(broken: type[MemoryOutbox]) -> None:
    with pytest.raises(AssertionError):
        exhaust(producers_and_a_reader(broken), clients=3)


def relays_and_time(make: Callable[..., MemoryOutbox]) -> Callable[[int], Story]:
    """Three relays claim, fetch and settle one partition, while one lease runs out."""

    def scenario(clients: int) -> Story:
        clock = ManualClock()
        store = make(partitions=1, clock=clock)
        committed(store, ONE)
        settled: list[int] = []
        owners: list[PartitionLease] = []
        given: list[float] = []

        def relay(name: str) -> list[Callable[[], object]]:
            mine: list[Any] = []

            def claim() -> None:
                mine.extend(store.claim(name, at_most=1, terms=TERMS).leases)
                owners.extend(mine)
                given.extend(clock.monotonic() for _ in mine)
                assert len(given) == len(set(given)), "a partition was given away twice within one lease"

            def fetch() -> None:
                try:
                    mine.extend(row.seq for row in store.fetch(mine[0], limit=1).rows)
                except (FencedError, IndexError):
                    mine.clear()

            def settle() -> None:
                if len(mine) > 1:
                    try:
                        settled.append(store.settle(mine[0], [mine[1]]))
                    except FencedError:
                        assert mine[0] is not owners[-1], "the owner that holds was fenced off"
                    else:
                        assert mine[0] is owners[-1], "an owner that was followed by another settled a row"

            return [claim, fetch, settle]

        def each_row_is_settled_once_at_most() -> None:
            assert sum(settled) <= 1
            assert sum(settled) + store.statistics().pending == 1
            assert [lease.epoch for lease in owners] == sorted({lease.epoch for lease in owners})

        return [*[relay(f"relay-{n}") for n in range(clients)], [lambda: clock.advance(31)]], each_row_is_settled_once_at_most

    return scenario


def test_of_three_relays_the_one_that_holds_the_epoch_settles_and_no_other() -> None:
    assert exhaust(relays_and_time(MemoryOutbox), clients=3).schedules == 16_800


@pytest.mark.parametrize("broken", [SettlesById, TwoOwners])
def test_the_interleavings_kill_an_outbox_without_fences_or_owners(broken: type[MemoryOutbox]) -> None:
    with pytest.raises(AssertionError):
        exhaust(relays_and_time(broken), clients=3)


def test_two_awaiting_relays_never_own_a_partition_together() -> None:
    def scenario(clients: int) -> Story:
        store = AsyncMemoryOutbox(MemoryOutbox(partitions=1, clock=ManualClock()), pause=turn)
        got: list[int] = []

        async def relay(name: str) -> None:
            claimed = await store.claim(name, at_most=1, terms=TERMS)
            got.extend(lease.epoch for lease in claimed.leases)

        def one_of_them() -> None:
            assert got == [1]

        return [relay(f"relay-{n}") for n in range(clients)], one_of_them

    assert exhaust(scenario, clients=3).schedules == 1680


# --- bounds and bad use ------------------------------------------------------------------------------------------------


def test_it_holds_as_many_rows_as_it_may_and_says_so() -> None:
    store = MemoryOutbox(at_most=2)
    committed(store, event(n=1), event(n=2))
    with pytest.raises(StoreFullError, match="2"):
        committed(store, event(n=3))
    assert store.statistics().pending == 2


def test_a_row_that_is_rolled_back_takes_no_room() -> None:
    store = MemoryOutbox(at_most=1)
    for _ in range(5):
        transaction = store.transaction()
        store.add(transaction, event())
        transaction.rollback()
    committed(store, event())


def test_what_it_remembers_of_a_key_ends_with_the_transactions_on_it() -> None:
    store = MemoryOutbox()
    for n in range(100):
        first, second = store.transaction(), store.transaction()
        store.add(first, event(f"acc_{n}"))
        store.add(second, event(f"acc_{n}"))
        second.commit()
        first.commit() if n % 2 else first.rollback()
    assert (store._open, store._last) == ({}, {})


@pytest.mark.parametrize("wrong", [{"partitions": 0}, {"partitions": 1025}, {"partitions": True}, {"at_most": 0}], ids=str)
def test_an_outbox_that_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        MemoryOutbox(**wrong)


def test_only_a_transaction_and_a_message_can_be_added() -> None:
    store = MemoryOutbox()
    with pytest.raises(ConfigurationError, match="transaction"):
        store.add(None, event())  # type: ignore[arg-type]  # the very mistake  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigurationError, match="message"), store.transaction() as transaction:
        store.add(transaction, {"n": 1})  # type: ignore[arg-type]  # as above  # pyright: ignore[reportArgumentType]


def test_ids_are_made_from_the_time_and_the_chance_that_it_is_told() -> None:
    store = MemoryOutbox(clock=ManualClock(), chance=iter(range(10)).__next__)
    with store.transaction() as transaction:
        made = [store.add(transaction, event(n=n)) for n in range(2)]
    assert made == [UUID("019b76da-a800-7000-8000-000000000000"), UUID("019b76da-a800-7000-8000-000000000001")]


def test_an_id_that_was_made_twice_is_refused_and_not_stored() -> None:
    store = MemoryOutbox(clock=ManualClock(), chance=lambda: 7)
    committed(store, event(n=1))
    with pytest.raises(DuplicateMessageError, match="holds a message with this id"):
        committed(store, event(n=2))
    assert store.statistics().pending == 1


# --- one transaction over several stores ---------------------------------------------------------------------------------


def test_one_transaction_over_two_outboxes_commits_both_or_neither() -> None:
    one, other = MemoryOutbox(), MemoryOutbox()
    with pytest.raises(RuntimeError), MemoryTransaction() as transaction:
        one.add(transaction, event())
        other.add(transaction, event())
        raise RuntimeError
    assert (one.statistics().pending, other.statistics().pending) == (0, 0)
    with MemoryTransaction() as transaction:
        one.add(transaction, event())
        other.add(transaction, event())
        assert (one.statistics().pending, other.statistics().pending) == (0, 0)
    assert (one.statistics().pending, other.statistics().pending) == (1, 1)


def test_a_store_that_cannot_commit_takes_all_others_back() -> None:
    class Full:
        def prepare(self) -> None:
            raise StoreFullError("rows", 0)

        def commit(self) -> None:
            raise AssertionError

        def rollback(self) -> None: ...

    outbox = MemoryOutbox()
    transaction = MemoryTransaction()
    outbox.add(transaction, event())
    transaction.enlist(object(), Full)
    with pytest.raises(StoreFullError):
        transaction.commit()
    assert (transaction.state, outbox.statistics().pending) == (TransactionState.ROLLED_BACK, 0)


def test_a_transaction_that_is_over_takes_nothing_more() -> None:
    outbox = MemoryOutbox()
    with MemoryTransaction() as transaction:
        outbox.add(transaction, event())
        transaction.commit()
    for deed in (transaction.commit, transaction.rollback, transaction.__enter__, lambda: outbox.add(transaction, event())):
        with pytest.raises(ConfigurationError, match="is over"):
            deed()
    assert outbox.statistics().pending == 1


def test_a_transaction_may_be_told_twice_to_roll_back() -> None:
    outbox = MemoryOutbox()
    with MemoryTransaction() as transaction:
        outbox.add(transaction, event())
        transaction.rollback()
        transaction.rollback()
    assert (transaction.state, outbox.statistics().pending) == (TransactionState.ROLLED_BACK, 0)
    assert "rolled_back" in repr(transaction)


def test_a_forked_child_does_not_wait_for_a_thread_that_it_does_not_have() -> None:
    a_forked_child_may("store.statistics().pending == 0", "MemoryOutbox")


async def test_a_transaction_is_awaited_as_well() -> None:
    outbox = AsyncMemoryOutbox()
    async with outbox.transaction() as transaction:
        outbox.add(transaction, event())
    assert (await outbox.statistics()).pending == 1
