"""What must an inbox keep? Each message is handled once by each group, however often it is delivered.

The laws, each a test of `testing.contracts.InboxContract`:

- the marker is inserted first, in the transaction of the effect: both are true, or neither;
- of any number of deliveries at once one is handled; the others wait for its transaction, or are told that it is under way;
- a message is known by its logical id, in its tenant and group; by what id the broker delivers it does not matter;
- a failure is counted outside the transaction that was rolled back, and after so many the message is parked: it is not run for ever;
- an event behind the high-water mark of its entity is stale, and changes nothing;
- a purge forgets old markers, and spares what is parked and every high-water mark.

Time is the store's own. Keep markers for longer than the broker may deliver again and anybody may replay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from finresilience.durable.seen import Counted, ParkedMessage, Seen

Tx_contra = TypeVar("Tx_contra", contravariant=True)


class InboxStore(Protocol[Tx_contra]):
    """An inbox for sync consumers. `AsyncInboxStore` differs by the `await` only."""

    @property
    def park_after(self) -> int:
        """After how many failures a message is parked."""
        ...

    def once(
        self,
        within: Tx_contra,
        *,
        group: str,
        message_id: str,
        tenant: str = "",
        delivery_id: str = "",
        entity: str | None = None,
        position: int | None = None,
    ) -> Seen:
        """Insert the marker in the caller's transaction, and tell whether the message is to be handled in it.

        Args:
            within: the transaction of the effect.
            group: which consumers: each group handles each message once.
            message_id: the logical id, which is the same however often the message is published and delivered.
            tenant: whose message it is.
            delivery_id: the broker's id of this delivery, kept for people.
            entity: what the event is about, such as an account, where later events make earlier ones stale.
            position: of the event among those of its entity; it only grows.

        Raises:
            ConfigurationError: if an argument cannot work, or `within` is no open transaction.
        """
        ...

    def failed(self, *, group: str, message_id: str, tenant: str = "", reason: str = "", delivery_id: str = "") -> Counted:
        """Count one failure, in a transaction of the store's own: call it once the one with the work is rolled back.

        What has been handled meanwhile is not counted, and what is parked is not counted any further.
        """
        ...

    def begun(self, *, group: str, message_id: str, tenant: str = "", delivery_id: str = "") -> Counted:
        """Count a run before it is made, as one that failed: so it is counted also if the message kills its consumer.

        It parks the message only if that had failed `park_after` times before; so each gets as many runs, however they end.
        Take it back by `forgiven` when the run has ended, and count its failure by `failed`.
        """
        ...

    def forgiven(self, *, group: str, message_id: str, tenant: str = "") -> Counted:
        """Take one failure back that was nobody's: the run was counted before it was made, and has ended otherwise."""
        ...

    def parked(self, *, limit: int = 100) -> Sequence[ParkedMessage]:
        """Return parked messages, the longest parked first."""
        ...

    def unpark(self, *, group: str, message_id: str, tenant: str = "") -> bool:
        """Let a parked message be handled when it is delivered again, with no failures; return whether it was parked."""
        ...

    def high_water(self, *, group: str, entity: str, tenant: str = "") -> int | None:
        """Return the highest position that was handled of an entity, or None."""
        ...

    def purge(self, *, older_than: float | timedelta, limit: int = 1000) -> int:
        """Forget markers, and failures of what is not parked, of that long ago or longer; return how many, at most `limit`."""
        ...


class AsyncInboxStore(Protocol[Tx_contra]):
    """An inbox for async consumers: `InboxStore`, awaited."""

    @property
    def park_after(self) -> int:
        """After how many failures a message is parked."""
        ...

    async def once(
        self,
        within: Tx_contra,
        *,
        group: str,
        message_id: str,
        tenant: str = "",
        delivery_id: str = "",
        entity: str | None = None,
        position: int | None = None,
    ) -> Seen:
        """Insert the marker in the caller's transaction, and tell whether the message is to be handled in it."""
        ...

    async def failed(self, *, group: str, message_id: str, tenant: str = "", reason: str = "", delivery_id: str = "") -> Counted:
        """Count one failure, in a transaction of the store's own."""
        ...

    async def begun(self, *, group: str, message_id: str, tenant: str = "", delivery_id: str = "") -> Counted:
        """Count a run before it is made, as one that failed; it parks only what had failed `park_after` times before."""
        ...

    async def forgiven(self, *, group: str, message_id: str, tenant: str = "") -> Counted:
        """Take one failure back that was nobody's."""
        ...

    async def parked(self, *, limit: int = 100) -> Sequence[ParkedMessage]:
        """Return parked messages, the longest parked first."""
        ...

    async def unpark(self, *, group: str, message_id: str, tenant: str = "") -> bool:
        """Let a parked message be handled when it is delivered again; return whether it was parked."""
        ...

    async def high_water(self, *, group: str, entity: str, tenant: str = "") -> int | None:
        """Return the highest position that was handled of an entity, or None."""
        ...

    async def purge(self, *, older_than: float | timedelta, limit: int = 1000) -> int:
        """Forget old markers, and old failures of what is not parked."""
        ...
