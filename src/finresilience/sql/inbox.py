"""An inbox in tables: the marker's primary key decides who handles a message, in the transaction of the effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar, final

from finresilience._checks import positive_count, refuse, seconds_of
from finresilience.durable.records import MAX_BATCH, MAX_REASON, text_of
from finresilience.sql.sources import AsyncSource, Source
from finresilience.sql.within import acarry_out_within, carry_out_within

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from sqlalchemy import Table
    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
    from sqlalchemy.orm import Session

    from finresilience.durable.seen import Counted, ParkedMessage, Seen
    from finresilience.sql.inbox_deeds import InboxDeeds, Place
    from finresilience.sql.statements import Deed

T = TypeVar("T")

_FARTHEST: Final = 2**63 - 1  # what a bigint holds
_WIDEST: Final = 2_600  # bytes of a key that PostgreSQL's indexes take


def place(tenant: str, group: str, what: str, name: str = "message_id") -> Place:
    """Return where a message or an entity is kept, if every database can hold it, and find it by an index."""
    at = text_of("tenant", tenant, empty=True), text_of("group", group), text_of(name, what)
    if sum(len(word.encode()) for word in at) > _WIDEST:
        refuse(name, what, f"with its tenant and group at most {_WIDEST:,} bytes in UTF-8: one index holds them all")
    return at


def marking(
    deeds: InboxDeeds,
    within: object,
    at: Place,
    delivery_id: str,
    entity: str | None,
    position: int | None,
    patience: float | None = None,
) -> Callable[[], Deed[Seen]]:
    """Return what inserts the marker, once all arguments are looked at."""
    if within is None:
        refuse("within", within, "the transaction of the effect: a marker of its own would be true without it")
    text_of("delivery_id", delivery_id, empty=True)
    if (entity is None) is not (position is None):
        missing = "entity" if entity is None else "position"
        refuse(missing, None, "both entity= and position=, or neither")
    if entity is not None:
        text_of("entity", entity)
        positive_count("position", position, least=0, most=_FARTHEST)
    if patience is not None:
        return lambda: deeds.once_within(at, entity, position, patience)
    return lambda: deeds.once(at, entity, position)


class _AtTheDoor:
    """What both stores check before they ask. Internal."""

    def __init__(self, table: Table, deeds: InboxDeeds, *, park_after: int = 5, lock_timeout: float | timedelta | None = None) -> None:
        self._table = table
        self._deeds = deeds
        self._patience = None if lock_timeout is None else seconds_of("lock_timeout", lock_timeout)
        self._park_after = positive_count("park_after", park_after, most=1000)

    @property
    def park_after(self) -> int:
        """After how many failures a message is parked."""
        return self._park_after

    def _failing(self, at: Place, reason: str, delivery_id: str) -> Callable[[], Deed[Counted]]:
        text_of("reason", reason, most=MAX_REASON, empty=True)
        text_of("delivery_id", delivery_id, empty=True)
        return lambda: self._deeds.failed(at, reason, delivery_id, self._park_after)

    def _beginning(self, at: Place, delivery_id: str) -> Callable[[], Deed[Counted]]:
        text_of("delivery_id", delivery_id, empty=True)
        return lambda: self._deeds.begun(at, delivery_id, self._park_after)

    def _listing(self, limit: int) -> Callable[[], Deed[Sequence[ParkedMessage]]]:
        positive_count("limit", limit, most=MAX_BATCH)
        return lambda: self._deeds.parked(limit)

    def _purging(self, older_than: float | timedelta, limit: int) -> Callable[[], Deed[int]]:
        age = seconds_of("older_than", older_than, zero=True)
        positive_count("limit", limit, most=MAX_BATCH)
        return lambda: self._deeds.purge(age, limit)


@final
class SqlInboxStore(_AtTheDoor):
    """An `InboxStore` over an Engine. Made by `tables.inbox.store(engine)`."""

    def __init__(self, engine: Engine, table: Table, deeds: InboxDeeds, **more: Any) -> None:
        super().__init__(table, deeds, **more)
        self._source = Source(engine)

    def once(
        self,
        within: Session | Connection,
        *,
        group: str,
        message_id: str,
        tenant: str = "",
        delivery_id: str = "",
        entity: str | None = None,
        position: int | None = None,
    ) -> Seen:
        """Insert the marker in the caller's transaction, and tell whether the message is to be handled in it."""
        begin = marking(self._deeds, within, place(tenant, group, message_id), delivery_id, entity, position, self._patience)
        return carry_out_within(within, begin(), self._table)

    def failed(self, *, group: str, message_id: str, tenant: str = "", reason: str = "", delivery_id: str = "") -> Counted:
        """Count one failure, in a transaction of the store's own."""
        return self._source.together(self._failing(place(tenant, group, message_id), reason, delivery_id))

    def begun(self, *, group: str, message_id: str, tenant: str = "", delivery_id: str = "") -> Counted:
        """Count a run before it is made, as one that failed; it parks only what had failed `park_after` times before."""
        return self._source.together(self._beginning(place(tenant, group, message_id), delivery_id))

    def forgiven(self, *, group: str, message_id: str, tenant: str = "") -> Counted:
        """Take one failure back that was nobody's."""
        at = place(tenant, group, message_id)
        return self._source.together(lambda: self._deeds.forgiven(at))

    def parked(self, *, limit: int = 100) -> Sequence[ParkedMessage]:
        """Return parked messages, the longest parked first."""
        return self._source.alone(self._listing(limit))

    def unpark(self, *, group: str, message_id: str, tenant: str = "") -> bool:
        """Let a parked message be handled when it is delivered again; return whether it was parked."""
        at = place(tenant, group, message_id)
        return self._source.alone(lambda: self._deeds.unpark(at))

    def high_water(self, *, group: str, entity: str, tenant: str = "") -> int | None:
        """Return the highest position that was handled of an entity, or None."""
        at = place(tenant, group, entity, "entity")
        return self._source.alone(lambda: self._deeds.high_water(at))

    def purge(self, *, older_than: float | timedelta, limit: int = 1000) -> int:
        """Forget old markers, and old failures of what is not parked."""
        return self._source.together(self._purging(older_than, limit))


@final
class AsyncSqlInboxStore(_AtTheDoor):
    """An `AsyncInboxStore` over an AsyncEngine. Made by `tables.inbox.store(engine)`."""

    def __init__(self, engine: AsyncEngine, table: Table, deeds: InboxDeeds, **more: Any) -> None:
        super().__init__(table, deeds, **more)
        self._source = AsyncSource(engine)

    async def once(
        self,
        within: AsyncSession | AsyncConnection,
        *,
        group: str,
        message_id: str,
        tenant: str = "",
        delivery_id: str = "",
        entity: str | None = None,
        position: int | None = None,
    ) -> Seen:
        """Insert the marker in the caller's transaction, and tell whether the message is to be handled in it."""
        begin = marking(self._deeds, within, place(tenant, group, message_id), delivery_id, entity, position, self._patience)
        return await acarry_out_within(within, begin(), self._table)

    async def failed(self, *, group: str, message_id: str, tenant: str = "", reason: str = "", delivery_id: str = "") -> Counted:
        """Count one failure, in a transaction of the store's own."""
        return await self._source.together(self._failing(place(tenant, group, message_id), reason, delivery_id))

    async def begun(self, *, group: str, message_id: str, tenant: str = "", delivery_id: str = "") -> Counted:
        """Count a run before it is made, as one that failed; it parks only what had failed `park_after` times before."""
        return await self._source.together(self._beginning(place(tenant, group, message_id), delivery_id))

    async def forgiven(self, *, group: str, message_id: str, tenant: str = "") -> Counted:
        """Take one failure back that was nobody's."""
        at = place(tenant, group, message_id)
        return await self._source.together(lambda: self._deeds.forgiven(at))

    async def parked(self, *, limit: int = 100) -> Sequence[ParkedMessage]:
        """Return parked messages, the longest parked first."""
        return await self._source.alone(self._listing(limit))

    async def unpark(self, *, group: str, message_id: str, tenant: str = "") -> bool:
        """Let a parked message be handled when it is delivered again; return whether it was parked."""
        at = place(tenant, group, message_id)
        return await self._source.alone(lambda: self._deeds.unpark(at))

    async def high_water(self, *, group: str, entity: str, tenant: str = "") -> int | None:
        """Return the highest position that was handled of an entity, or None."""
        at = place(tenant, group, entity, "entity")
        return await self._source.alone(lambda: self._deeds.high_water(at))

    async def purge(self, *, older_than: float | timedelta, limit: int = 1000) -> int:
        """Forget old markers, and old failures of what is not parked."""
        return await self._source.together(self._purging(older_than, limit))


@final
class Once:
    """A marker in the caller's transaction; what the block is given is true only if the message is to be handled. Made by `once`."""

    def __init__(self, within: Any, begin: Callable[[], Deed[Seen]], table: Table) -> None:
        self._within = within
        self._begin = begin
        self._table = table

    def __enter__(self) -> Seen:
        return carry_out_within(self._within, self._begin(), self._table)

    def __exit__(self, *_: object) -> None:
        """Leave the rest to the transaction."""

    async def __aenter__(self) -> Seen:
        return await acarry_out_within(self._within, self._begin(), self._table)

    async def __aexit__(self, *_: object) -> None:
        """Leave the rest to the transaction."""
