"""How do events reach the rest of the same process? Each topic has a function, and through an inbox each event has its effect once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import isawaitable, iscoroutine, iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar, cast, overload

from finresilience._checks import name_of, refuse
from finresilience.durable.consuming import aconsume, consume
from finresilience.durable.errors import StoreBusyError
from finresilience.durable.seen import Parked, Underway
from finresilience.errors import ConfigurationError
from finresilience.integrations.publish_common import OUR_RULES, NotRoutedError, UnpublishableError

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from finresilience.classify.classifier import ErrorClassifier
    from finresilience.durable.inbox import AsyncInboxStore, InboxStore
    from finresilience.durable.messages import OutboxRow
    from finresilience.durable.seen import Seen

__all__ = ["local_classifier", "local_publisher", "local_publisher_sync"]

Tx = TypeVar("Tx")

_ONE_TRANSACTION: Final = "an inbox writes its marker in the transaction of the handler: give inbox=, transaction= and group= together"


class _Known(TypedDict):
    group: str
    message_id: str
    tenant: str
    redelivered: bool


def local_classifier() -> ErrorClassifier:
    """Return the rules by which a relay judges what handlers raise; join your own in front of them.

    A topic without a handler is RETRYABLE, because people mend it; an event that the inbox has parked is NON_RETRYABLE, so that the
    relay keeps it as a dead letter. What a handler raises is UNKNOWN until you say more: it may have done half of its work.
    """
    return OUR_RULES


@overload
def local_publisher(handlers: Mapping[str, Callable[[OutboxRow], object]]) -> Callable[[OutboxRow], Awaitable[None]]: ...
@overload
def local_publisher(
    handlers: Mapping[str, Callable[[OutboxRow, Tx], object]],
    *,
    inbox: AsyncInboxStore[Tx],
    transaction: Callable[[], AbstractAsyncContextManager[Tx]],
    group: str,
) -> Callable[[OutboxRow], Awaitable[None]]: ...
def local_publisher(
    handlers: Mapping[str, Callable[..., object]],
    *,
    inbox: AsyncInboxStore[Any] | None = None,
    transaction: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
    group: str | None = None,
) -> Callable[[OutboxRow], Awaitable[None]]:
    """Return a publisher that calls the topic's own function; the event is published once that has returned.

    A relay brings an event again if it died in between, so a handler must bear that, or be given an inbox: then it is called as
    `handler(row, transaction)`, in one transaction with the marker of the event's id, and the effect happens once.

    Args:
        handlers: a function for each topic, async or not; one that is not runs in the event loop and must not block it.
        inbox: knows what was handled.
        transaction: opens one that commits at its end, such as `async_session.begin`.
        group: under which the inbox knows these handlers.

    Raises:
        ConfigurationError: if an argument cannot work.
    """
    known = _checked(handlers)
    if inbox is None and transaction is None and group is None:

        async def publish(row: OutboxRow) -> None:
            answer = _handler(known, row)(row)
            if isawaitable(answer):
                await answer

        return publish
    if inbox is None or transaction is None or group is None:
        raise ConfigurationError(_ONE_TRANSACTION)
    _check_inbox(inbox, transaction, asynchronous=True)
    store, begin, of = inbox, transaction, name_of("group", group)

    async def publish_once(row: OutboxRow) -> None:
        handler = _handler(known, row)

        async def handle(mine: Any) -> None:
            answer = handler(row, mine)
            if isawaitable(answer):
                await answer

        _judge(await aconsume(store, begin, handle, **_known(row, of)))

    return publish_once


@overload
def local_publisher_sync(handlers: Mapping[str, Callable[[OutboxRow], object]]) -> Callable[[OutboxRow], None]: ...
@overload
def local_publisher_sync(
    handlers: Mapping[str, Callable[[OutboxRow, Tx], object]],
    *,
    inbox: InboxStore[Tx],
    transaction: Callable[[], AbstractContextManager[Tx]],
    group: str,
) -> Callable[[OutboxRow], None]: ...
def local_publisher_sync(
    handlers: Mapping[str, Callable[..., object]],
    *,
    inbox: InboxStore[Any] | None = None,
    transaction: Callable[[], AbstractContextManager[Any]] | None = None,
    group: str | None = None,
) -> Callable[[OutboxRow], None]:
    """Return `local_publisher`, not awaited, for `Relay.run_sync`. Its handlers are plain functions."""
    known = _checked(handlers)
    for topic, handler in known.items():
        if iscoroutinefunction(handler) or iscoroutinefunction(getattr(handler, "__call__", None)):  # noqa: B004 - an object may be async by its call
            raise ConfigurationError(f"the handler of {topic} is async: give local_publisher_sync plain functions, or use local_publisher")
    if inbox is None and transaction is None and group is None:

        def publish(row: OutboxRow) -> None:
            _plain(_handler(known, row)(row))

        return publish
    if inbox is None or transaction is None or group is None:
        raise ConfigurationError(_ONE_TRANSACTION)
    _check_inbox(inbox, transaction, asynchronous=False)
    store, begin, of = inbox, transaction, name_of("group", group)

    def publish_once(row: OutboxRow) -> None:
        handler = _handler(known, row)
        _judge(consume(store, begin, lambda mine: _plain(handler(row, mine)), **_known(row, of)))

    return publish_once


def _checked(handlers: Mapping[str, Callable[..., object]]) -> dict[str, Callable[..., object]]:
    if not isinstance(handlers, Mapping) or not handlers:
        refuse("handlers", handlers, "a mapping of topics to functions, such as {'payments': apply}")
    for topic, handler in handlers.items():
        if not isinstance(topic, str) or not topic.strip():
            refuse("handlers", topic, "topics as text")
        if not callable(handler):
            refuse(f"handlers[{topic!r}]", handler, "a function that takes one OutboxRow")
    return dict(handlers)


def _check_inbox(inbox: object, transaction: object, *, asynchronous: bool) -> None:
    once = getattr(inbox, "once", None)
    if not callable(once) or iscoroutinefunction(once) is not asynchronous:
        refuse("inbox", inbox, "an AsyncInboxStore" if asynchronous else "an InboxStore; for an async one there is local_publisher")
    if not callable(transaction):
        refuse("transaction", transaction, "a function that opens a transaction, such as sessionmaker.begin")


def _handler(known: Mapping[str, Callable[..., object]], row: OutboxRow) -> Callable[..., object]:
    found = known.get(row.message.topic)
    if found is None:
        raise NotRoutedError(f"the topic {row.message.topic} has no handler; there are {', '.join(sorted(known))}")
    return found


def _known(row: OutboxRow, group: str) -> _Known:
    # No entity and position: a dead letter that is revived comes after later events of its key, and must not be taken for stale.
    again = row.attempts > 0 or row.takeovers > 0
    return _Known(group=group, message_id=str(row.id), tenant=row.message.tenant or "", redelivered=again)


def _judge(seen: Seen) -> None:
    """Let nothing pass for published that was neither handled now nor before."""
    if isinstance(seen, Underway):  # by a relay that is being replaced: no failure of the event
        raise StoreBusyError
    if isinstance(seen, Parked):
        raise UnpublishableError(f"the inbox has parked it after {seen.failures} failures; unpark it there first")


def _plain(answer: object) -> None:
    if isawaitable(answer):
        if iscoroutine(answer):
            cast("Any", answer).close()
        raise ConfigurationError("a handler returned an awaitable: give local_publisher_sync plain functions, or use local_publisher")
