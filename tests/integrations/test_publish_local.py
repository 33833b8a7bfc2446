"""Events in the same process: each topic has its function, and through an inbox each event has its effect once."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from finresilience.durable.amemory_inbox import AsyncMemoryInboxStore
from finresilience.durable.errors import StoreBusyError
from finresilience.durable.memory_inbox import MemoryInboxStore
from finresilience.durable.memory_outbox import MemoryOutbox
from finresilience.durable.outbox import Exhausted, Reason
from finresilience.errors import ConfigurationError
from finresilience.integrations.publish_common import NotRoutedError, UnpublishableError
from finresilience.integrations.publish_local import local_classifier, local_publisher, local_publisher_sync
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN
from finresilience.testing import instant
from tests.durable.relays import committed, relay_of
from tests.integrations.publishing import ID, message, row

if TYPE_CHECKING:
    from finresilience.durable.memory_transaction import MemoryTransaction
    from finresilience.durable.messages import OutboxRow

# --- without an inbox ------------------------------------------------------------------------------------------------


async def test_an_event_goes_to_the_function_of_its_topic_and_to_no_other() -> None:
    heard: list[tuple[str, Any]] = []

    async def later(event: OutboxRow) -> None:
        heard.append(("payments", event.id))

    publish = local_publisher({"payments": later, "refunds": lambda event: heard.append(("refunds", event.id))})
    await publish(row())
    await publish(row(topic="refunds"))
    assert heard == [("payments", ID), ("refunds", ID)]


def test_plain_functions_are_called_without_a_loop() -> None:
    heard: list[Any] = []
    local_publisher_sync({"payments": heard.append})(row())
    assert [event.id for event in heard] == [ID]


async def test_what_a_handler_raises_is_raised_as_it_is() -> None:
    def fails(_: Any) -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await local_publisher({"payments": fails})(row())
    with pytest.raises(ValueError, match="mine"):
        local_publisher_sync({"payments": fails})(row())


async def test_a_topic_without_a_function_is_an_error_that_says_which_there_are() -> None:
    for told in ("refunds, settlements", "NotRoutedError"):
        with pytest.raises(NotRoutedError, match=r"payments has no handler; there are refunds, settlements") as caught:
            await local_publisher({"settlements": print, "refunds": print})(row())
        assert told in f"{type(caught.value).__name__} {caught.value}"
    with pytest.raises(NotRoutedError):
        local_publisher_sync({"refunds": print})(row())


async def test_a_handler_that_is_added_later_is_not_known() -> None:
    handlers: dict[str, Any] = {"refunds": print}
    publish = local_publisher(handlers)
    handlers["payments"] = print
    with pytest.raises(NotRoutedError):
        await publish(row())


def test_an_unknown_topic_holds_back_its_own_key_only_and_is_kept() -> None:
    heard: list[str] = []
    publish = local_publisher_sync({"payments": lambda event: heard.append(event.message.key)})
    with instant():
        store = MemoryOutbox(partitions=1)
        committed(store, message(0, "acc_1", topic="typo"), message(1, "acc_1"), message(2, "acc_2"))
        relay_of(store, publish, classify=local_classifier(), max_attempts=3).run_sync(until_idle=True)
    assert heard == ["acc_2"]
    assert (store.statistics().pending, store.statistics().dead) == (2, 0)


# --- with one --------------------------------------------------------------------------------------------------------


class Ledger:
    """Counts what committed."""

    def __init__(self) -> None:
        self.booked: list[int] = []
        self.fails = 0

    def prepare(self) -> None: ...
    def rollback(self) -> None: ...
    def commit(self) -> None:
        self.booked.append(1)

    def book(self, _: OutboxRow, mine: MemoryTransaction) -> None:
        mine.enlist(self, lambda: self)
        if self.fails:
            self.fails -= 1
            raise OSError("full")


def once(ledger: Ledger, inbox: MemoryInboxStore) -> Any:
    return local_publisher_sync({"payments": ledger.book}, inbox=inbox, transaction=inbox.transaction, group="ledger")


def test_an_event_that_comes_twice_has_its_effect_once() -> None:
    ledger = Ledger()
    publish = once(ledger, MemoryInboxStore())
    publish(row())
    publish(row(takeovers=1))
    assert ledger.booked == [1]


async def test_an_event_that_comes_twice_has_its_effect_once_when_awaited() -> None:
    ledger, inbox = Ledger(), AsyncMemoryInboxStore()

    async def book(event: OutboxRow, mine: MemoryTransaction) -> None:
        ledger.book(event, mine)

    for handler in (ledger.book, book):
        publish = local_publisher({"payments": handler}, inbox=inbox, transaction=inbox.transaction, group="ledger")
        await publish(row())
        await publish(row(attempts=1))
    assert ledger.booked == [1]


def test_without_an_inbox_it_has_its_effect_twice_which_is_why_there_is_one() -> None:
    heard: list[Any] = []
    publish = local_publisher_sync({"payments": heard.append})
    publish(row())
    publish(row(takeovers=1))
    assert len(heard) == 2


def test_what_failed_left_nothing_behind_and_is_handled_when_it_comes_again() -> None:
    ledger = Ledger()
    ledger.fails = 1
    publish = once(ledger, MemoryInboxStore())
    with pytest.raises(OSError, match="full"):
        publish(row())
    assert ledger.booked == []
    publish(row(attempts=1))
    assert ledger.booked == [1]


def test_two_groups_and_two_tenants_handle_it_each() -> None:
    ledger, inbox = Ledger(), MemoryInboxStore()
    for group in ("ledger", "mail"):
        publish = local_publisher_sync({"payments": ledger.book}, inbox=inbox, transaction=inbox.transaction, group=group)
        publish(row())
        publish(row(tenant="eu"))
    assert len(ledger.booked) == 4


def test_an_older_event_that_was_revived_is_handled_although_later_ones_were() -> None:
    ledger, inbox = Ledger(), MemoryInboxStore()
    ledger.fails = 1
    with instant():
        store = MemoryOutbox(partitions=1)
        committed(store, message(1), message(2))
        relay = relay_of(store, once(ledger, inbox), max_attempts=1, exhausted=Exhausted.SKIP_TO_DLQ)
        relay.run_sync(until_idle=True)
        [letter] = store.dead_letters()
        assert (letter.row.message.json(), ledger.booked) == ({"n": 1}, [1])
        store.revive(letter.row.id)
        relay.run_sync(until_idle=True)
    assert ledger.booked == [1, 1]


def test_what_the_inbox_has_parked_becomes_a_dead_letter_with_its_payload_and_not_a_published_event() -> None:
    ledger = Ledger()
    ledger.fails = 99
    with instant() as clock:
        inbox, store = MemoryInboxStore(park_after=2), MemoryOutbox(partitions=1)
        committed(store, message())
        relay = relay_of(store, once(ledger, inbox), classify=local_classifier())
        for _ in range(5):
            relay.run_sync(until_idle=True)
            clock.advance(61)
        [letter] = store.dead_letters()
        assert (letter.reason, letter.row.message.json()) == (Reason.REFUSED, {"n": 0})
        ledger.fails = 0
        inbox.unpark(group="ledger", message_id=str(letter.row.id))
        store.revive(letter.row.id)
        relay.run_sync(until_idle=True)
    assert ledger.booked == [1]


def test_what_is_being_handled_elsewhere_is_not_published_and_costs_no_attempt() -> None:
    ledger = Ledger()
    with instant() as clock:
        inbox, store = MemoryInboxStore(), MemoryOutbox(partitions=1)
        committed(store, message(id=ID))
        relay = relay_of(store, once(ledger, inbox), max_attempts=2)
        with inbox.transaction() as elsewhere:
            inbox.once(elsewhere, group="ledger", message_id=str(ID))
            with pytest.raises(StoreBusyError):
                once(ledger, inbox)(row())
            for _ in range(30):
                relay.run_sync(until_idle=True)
                clock.advance(61)
            assert (store.statistics().pending, store.statistics().dead) == (1, 0)
        relay.run_sync(until_idle=True)
        assert (store.statistics().published, ledger.booked) == (1, [])


async def test_the_awaited_one_too_takes_nothing_for_published_that_was_not_handled() -> None:
    inbox = AsyncMemoryInboxStore(MemoryInboxStore(park_after=1))
    publish = local_publisher({"payments": Ledger().book}, inbox=inbox, transaction=inbox.transaction, group="ledger")
    with inbox.transaction() as elsewhere:
        await inbox.once(elsewhere, group="ledger", message_id=str(ID))
        with pytest.raises(StoreBusyError):
            await publish(row())
        elsewhere.rollback()
    await inbox.failed(group="ledger", message_id=str(ID))
    with pytest.raises(UnpublishableError, match="parked"):
        await publish(row())


class Killed(BaseException):
    """What no code of ours sees: the process is gone."""


def test_an_event_that_kills_its_process_is_parked_by_the_inbox() -> None:
    inbox = MemoryInboxStore(park_after=2)

    def kill(*_: Any) -> None:
        raise Killed

    publish = local_publisher_sync({"payments": kill}, inbox=inbox, transaction=inbox.transaction, group="ledger")
    for takeovers in (1, 2):
        with pytest.raises(Killed):
            publish(row(takeovers=takeovers))
    with pytest.raises(UnpublishableError, match="parked"):
        publish(row(takeovers=3))


# --- what it means, and what is refused ------------------------------------------------------------------------------


def test_its_rules_say_what_people_mend_and_what_nobody_knows() -> None:
    rules = local_classifier()
    assert rules.error(NotRoutedError("no handler")).classification is RETRYABLE
    assert rules.error(UnpublishableError("parked")).classification is NON_RETRYABLE
    assert rules.error(OSError()).classification is UNKNOWN


async def an_async_one(_: Any) -> None: ...


class Called:
    async def __call__(self, _: Any) -> None: ...


@pytest.mark.parametrize("handler", [an_async_one, Called()], ids=["function", "object"])
def test_an_async_handler_is_refused_where_nobody_awaits_it(handler: Any) -> None:
    with pytest.raises(ConfigurationError, match="payments is async: give local_publisher_sync plain functions, or use local_publisher"):
        local_publisher_sync({"payments": handler})


def test_a_hidden_async_handler_is_found_out_when_it_is_called() -> None:
    def hides_it(event: Any) -> Any:
        return an_async_one(event)

    with pytest.raises(ConfigurationError, match="plain functions"):
        local_publisher_sync({"payments": hides_it})(row())


@pytest.mark.parametrize("made", [local_publisher, local_publisher_sync])
@pytest.mark.parametrize("handlers", [{}, None, print, {"": print}, {7: print}, {"payments": "print"}], ids=str)
def test_handlers_that_cannot_work_are_refused(made: Any, handlers: Any) -> None:
    with pytest.raises(ConfigurationError, match="handlers"):
        made(handlers)


def test_an_inbox_needs_the_transaction_of_the_effect_and_a_group() -> None:
    inbox, awaited = MemoryInboxStore(), AsyncMemoryInboxStore()
    sync, alike = partial(local_publisher_sync, {"a": print}), partial(local_publisher, {"a": print})
    wrong: list[tuple[Any, dict[str, Any]]] = [
        (sync, {"inbox": inbox}),
        (sync, {"group": "ledger"}),
        (sync, {"inbox": inbox, "transaction": inbox.transaction}),
        (sync, {"inbox": awaited, "transaction": awaited.transaction, "group": "ledger"}),
        (sync, {"inbox": inbox, "transaction": 7, "group": "ledger"}),
        (sync, {"inbox": inbox, "transaction": inbox.transaction, "group": ""}),
        (alike, {"inbox": awaited}),
        (alike, {"inbox": inbox, "transaction": inbox.transaction, "group": "ledger"}),
        (alike, {"inbox": object(), "transaction": inbox.transaction, "group": "ledger"}),
    ]
    for made, arguments in wrong:
        with pytest.raises(ConfigurationError):
            made(**arguments)
