"""Idempotency stores and inboxes that cut words, count from another moment, or read what is not committed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from finresilience._checks import seconds_of
from finresilience.durable.memory_idempotency import MemoryIdempotencyStore, Row
from finresilience.durable.memory_inbox import MemoryInboxStore
from finresilience.durable.records import Claim, ClaimToken, Replay, lease_of
from finresilience.durable.seen import Counted, Seen, Stale
from finresilience.testing.saboteurs import saboteur

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from finresilience.durable.memory_transaction import MemoryTransaction

KEYS = "IdempotencyStoreContract"
INBOX = "InboxContract"


def not_committed(table: Any) -> Iterator[tuple[Any, Any]]:
    """Yield what open transactions have written."""
    for key, known in list(table._locked.items()):
        part = known()
        if part is not None and key in part.rows:
            yield key, part.rows[key]


@saboteur(KEYS, kills="test_the_longest_words_are_kept_whole")
class CutsFingerprints(MemoryIdempotencyStore):
    """Has a column of 64 characters for digests: the end of a longer one is not compared, and another request is given this answer."""

    def claim(self, scope: str, key: str, **more: Any) -> Claim:
        given = more["fingerprint"]
        more.update(fingerprint=given[:64] if isinstance(given, str) and len(given) < 256 else given)
        return super().claim(scope, key, **more)


@saboteur(KEYS, kills="test_to_be_asked_again_keeps_nothing_longer")
class KeepsWhatIsAskedFor(MemoryIdempotencyStore):
    """Counts from when an answer was last asked for: a client that polls keeps its key for ever, and the table grows."""

    def claim(self, scope: str, key: str, **more: Any) -> Claim:
        told = super().claim(scope, key, **more)
        row = self._rows.get((scope, key), more.get("within"))
        if isinstance(told, Replay) and row is not None:
            self._put(replace(row, changed=self._clock.monotonic()), more.get("within"))
        return told


@saboteur(KEYS, kills="test_to_be_asked_again_keeps_nothing_longer")
class PurgesAMomentLate(MemoryIdempotencyStore):
    """Compares ages by `<` where `<=` was promised: a purge of all that is finished leaves what has just been."""

    @staticmethod
    def _is_old(row: Row, before: float) -> bool:
        return MemoryIdempotencyStore._is_old(row, before) and row.changed != before


@saboteur(KEYS, kills="test_a_lease_that_is_renewed_for_less_ends_sooner")
class NeverShortens(MemoryIdempotencyStore):
    """Takes the longer of two leases: a holder that will be gone in a moment keeps its heir waiting."""

    def renew(self, token: ClaimToken, *, lease: float | timedelta) -> None:
        seconds = lease_of(lease)
        with self._lock:
            row = self._at_work("renew", token, None)
            now = self._clock.monotonic()
            self._put(replace(row, until=max(row.until, now + seconds), changed=now), None)


@saboteur(KEYS, kills="test_what_is_not_committed_is_neither_purged_nor_listed")
class PurgesPastTheLocks(MemoryIdempotencyStore):
    """Takes no notice of row locks when it purges: an answer that is rolled back takes the claim with it, and the payment is made again."""

    def purge(self, *, older_than: float | timedelta, scope: str | None = None, limit: int = 1000) -> int:
        gone = super().purge(older_than=older_than, scope=scope, limit=limit)
        before = self._clock.monotonic() - seconds_of("older_than", older_than, zero=True)
        with self._lock:
            for key, row in not_committed(self._rows):
                if isinstance(row, Row) and self._is_old(row, before):
                    self._rows._rows.pop(key, None)
                    gone += 1
        return gone


@saboteur(INBOX, kills="test_a_marker_is_kept_for_so_long_to_the_moment")
class MarkersStayAMoment(MemoryInboxStore):
    """Compares ages by `<` where `<=` was promised."""

    def purge(self, *, older_than: float | timedelta, limit: int = 1000) -> int:
        return super().purge(older_than=seconds_of("older_than", older_than, zero=True) + 1e-6, limit=limit)


@saboteur(INBOX, kills="test_what_is_stale_or_handled_leaves_nothing_behind")
class MarksTheStale(MemoryInboxStore):
    """Leaves a marker for an event that is stale: nobody ever handled it, and it is called a duplicate."""

    def once(self, within: MemoryTransaction, **more: Any) -> Seen:
        told = super().once(within, **more)
        if isinstance(told, Stale):
            self._markers.put((more.get("tenant", ""), more["group"], more["message_id"]), self._clock.monotonic(), within)
        return told


@saboteur(INBOX, kills="test_a_parked_message_ages_from_its_parking")
class ParkedOnesStayYoung(MemoryInboxStore):
    """Writes down when a parked message came last: one that is delivered again and again never seems to wait for anybody."""

    def failed(self, *, group: str, message_id: str, tenant: str = "", reason: str = "", delivery_id: str = "") -> Counted:
        told = super().failed(group=group, message_id=message_id, tenant=tenant, reason=reason, delivery_id=delivery_id)
        known = self._failures.get((tenant, group, message_id))
        if known is not None and told.parked:
            self._failures.put((tenant, group, message_id), replace(known, last=self._clock.monotonic()))
        return told


@saboteur(INBOX, kills="test_a_marker_that_is_not_committed_is_not_purged")
class PurgesUncommittedMarkers(MemoryInboxStore):
    """Takes no notice of row locks when it purges: it counts markers that never were."""

    def purge(self, *, older_than: float | timedelta, limit: int = 1000) -> int:
        gone = super().purge(older_than=older_than, limit=limit)
        before = self._clock.monotonic() - seconds_of("older_than", older_than, zero=True)
        with self._lock:
            never_were = [marked for _, marked in not_committed(self._markers) if marked <= before]
        return gone + len(never_were)
