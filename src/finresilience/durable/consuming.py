"""How is a message handled once, and poison not for ever? The loop round an inbox that everybody would write, written once.

For a transaction of yours that does more than this message, call the inbox by itself: `once` in it, `failed` after its rollback.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar

from finresilience.crash_points import crash_point, declare
from finresilience.durable.seen import Counted, Parked
from finresilience.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from finresilience.durable.inbox import AsyncInboxStore, InboxStore
    from finresilience.durable.seen import Seen

Tx = TypeVar("Tx")

PARTING = 5.0  # seconds

HANDLED: Final = declare("inbox.handled", "the handler is done, and its transaction is still open")
COMMITTED: Final = declare("inbox.committed", "the work and its marker are committed, and the broker has not heard of it")
ROLLED_BACK: Final = declare("inbox.rolled_back", "the work was rolled back, and the failure is not counted yet")


class _Message(TypedDict):
    group: str
    message_id: str
    tenant: str


def consume(
    inbox: InboxStore[Tx],
    transaction: Callable[[], AbstractContextManager[Tx]],
    handler: Callable[[Tx], object],
    *,
    group: str,
    message_id: str,
    tenant: str = "",
    delivery_id: str = "",
    entity: str | None = None,
    position: int | None = None,
    redelivered: bool = False,
    again: Callable[[Exception], bool] | None = None,
    attempts: int = 1,
) -> Seen:
    """Handle a message in one transaction with its marker, unless it was handled; return what the inbox said of it.

    Acknowledge it to the broker once this has returned, unless an `Underway` came: that one must be delivered again.
    What the handler raises is raised, with everything rolled back and the failure counted; a refusal of ours (circuit open,
    limit reached) is nobody's failure and is not counted, and neither is a cancellation.

    Args:
        inbox: knows what was handled.
        transaction: opens one that commits at its end: `session_factory.begin`, or a memory store's `transaction`.
        handler: does the work in it.
        group: which consumers.
        message_id: the logical id of the message.
        tenant: whose message it is.
        delivery_id: the broker's id of this delivery.
        entity: what the event is about, where later events make earlier ones stale.
        position: of the event among those of its entity.
        redelivered: whether the broker says so. Then the run is counted before it is made, so that a message that kills its
            consumer is parked too; a first delivery costs nothing.
        again: whether an error means that the database took the transaction back because of others: then it is run anew, and nothing
            is counted.
        attempts: how often such a transaction is run at most.
    """
    message = _Message(group=group, message_id=message_id, tenant=tenant)
    if redelivered:
        counted = inbox.begun(**message, delivery_id=delivery_id)
        if counted.parked:
            return Parked(counted.failures)
    marker = partial(inbox.once, **message, delivery_id=delivery_id, entity=entity, position=position)
    try:
        seen = _run_again(partial(_handled, transaction, marker, handler), again, attempts)
    except (KeyboardInterrupt, SystemExit):
        if redelivered:
            inbox.forgiven(**message)
        raise
    except Exception as error:
        crash_point(ROLLED_BACK)
        if redelivered:
            inbox.forgiven(**message)
        if not isinstance(error, RefusedError):
            _note(error, inbox.failed(**message, reason=type(error).__name__[:200], delivery_id=delivery_id))
        raise
    crash_point(COMMITTED)
    if redelivered and not seen:
        inbox.forgiven(**message)
    return seen


async def aconsume(
    inbox: AsyncInboxStore[Tx],
    transaction: Callable[[], AbstractAsyncContextManager[Tx]],
    handler: Callable[[Tx], Awaitable[object]],
    *,
    group: str,
    message_id: str,
    tenant: str = "",
    delivery_id: str = "",
    entity: str | None = None,
    position: int | None = None,
    redelivered: bool = False,
    again: Callable[[Exception], bool] | None = None,
    attempts: int = 1,
) -> Seen:
    """Handle a message in one transaction with its marker, unless it was handled: `consume`, awaited."""
    message = _Message(group=group, message_id=message_id, tenant=tenant)
    if redelivered:
        counted = await inbox.begun(**message, delivery_id=delivery_id)
        if counted.parked:
            return Parked(counted.failures)
    marker = partial(inbox.once, **message, delivery_id=delivery_id, entity=entity, position=position)
    try:
        seen = await _arun_again(partial(_ahandled, transaction, marker, handler), again, attempts)
    except BaseException as error:
        if not isinstance(error, Exception):
            if redelivered and _is_parting(error):
                await _forgiven_all_the_same(inbox, message)
            raise
        crash_point(ROLLED_BACK)
        if redelivered:
            await inbox.forgiven(**message)
        if not isinstance(error, RefusedError):
            _note(error, await inbox.failed(**message, reason=type(error).__name__[:200], delivery_id=delivery_id))
        raise
    crash_point(COMMITTED)
    if redelivered and not seen:
        await inbox.forgiven(**message)
    return seen


def _handled(transaction: Callable[[], AbstractContextManager[Tx]], marker: Callable[[Tx], Seen], handler: Callable[[Tx], object]) -> Seen:
    with transaction() as mine:
        seen = marker(mine)
        if seen:
            handler(mine)
            crash_point(HANDLED)
    return seen


async def _ahandled(
    transaction: Callable[[], AbstractAsyncContextManager[Tx]],
    marker: Callable[[Tx], Awaitable[Seen]],
    handler: Callable[[Tx], Awaitable[object]],
) -> Seen:
    async with transaction() as mine:
        seen = await marker(mine)
        if seen:
            await handler(mine)
            crash_point(HANDLED)
    return seen


def _run_again(once: Callable[[], Seen], again: Callable[[Exception], bool] | None, attempts: int) -> Seen:
    for _ in range(attempts - 1):
        try:
            return once()
        except Exception as error:
            if again is None or not again(error):
                raise
    return once()


async def _arun_again(once: Callable[[], Awaitable[Seen]], again: Callable[[Exception], bool] | None, attempts: int) -> Seen:
    for _ in range(attempts - 1):
        try:
            return await once()
        except Exception as error:
            if again is None or not again(error):
                raise
    return await once()


def _is_parting(error: BaseException) -> bool:
    """Return whether the consumer was told to stop, by a cancellation or a signal, and did not die of the message."""
    from anyio import get_cancelled_exc_class

    return isinstance(error, (get_cancelled_exc_class(), KeyboardInterrupt, SystemExit))


async def _forgiven_all_the_same(inbox: AsyncInboxStore[Any], message: _Message) -> None:
    """Take the failure back although we are cancelled; for so long, lest a store that hangs holds up the shutdown."""
    from anyio import move_on_after

    with move_on_after(PARTING, shield=True):
        await inbox.forgiven(**message)


def _note(error: Any, counted: Counted) -> None:
    if counted.parked:
        error.add_note(f"the message has failed {counted.failures} times and is parked: it waits for a person, acknowledge it")
