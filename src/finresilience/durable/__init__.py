"""What must outlive a process: idempotency keys, inbox, outbox and relay. Protocols, and reference stores in memory.

Nothing is imported until a name is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finresilience.durable.amemory_idempotency import AsyncMemoryIdempotencyStore
    from finresilience.durable.amemory_inbox import AsyncMemoryInboxStore
    from finresilience.durable.codec_declines import decline_codec
    from finresilience.durable.codecs import Codec, dataclass_codec, json_codec, msgspec_codec
    from finresilience.durable.consuming import aconsume, consume
    from finresilience.durable.errors import FinishedOtherwiseError, StaleRecordError, StaleTokenError, StoreBusyError, StoreFullError
    from finresilience.durable.failures import failure_of
    from finresilience.durable.fingerprints import fingerprint_of
    from finresilience.durable.idempotency import AsyncIdempotencyStore, IdempotencyStore
    from finresilience.durable.idempotent import AsyncIdempotent, SyncIdempotent, operation_of
    from finresilience.durable.idempotent_errors import (
        KeyIndeterminateError,
        KeyInProgressError,
        KeyMismatchError,
        ReplayedDeclineError,
        UnreadableReplayError,
    )
    from finresilience.durable.idempotent_events import AnswerNotKept, AnswerReplayed, ClaimLost, HeirAsked, StoreNotTold
    from finresilience.durable.idempotent_operation import Idempotent
    from finresilience.durable.idempotent_run import CurrentClaim, current_claim
    from finresilience.durable.inbox import AsyncInboxStore, InboxStore
    from finresilience.durable.memory_idempotency import MemoryIdempotencyStore
    from finresilience.durable.memory_inbox import MemoryInboxStore
    from finresilience.durable.memory_outbox import MemoryOutbox
    from finresilience.durable.memory_outbox_async import AsyncMemoryOutbox
    from finresilience.durable.memory_transaction import MemoryTransaction
    from finresilience.durable.messages import OutboxMessage, OutboxRow, cloudevent, cloudevent_headers, columns, partition_of
    from finresilience.durable.outbox import (
        AsyncOutboxStore,
        Batch,
        DeadLetter,
        DuplicateMessageError,
        Exhausted,
        Failure,
        FencedError,
        LeaseTerms,
        OutboxStatistics,
        OutboxStore,
        PartitionLease,
        Reason,
    )
    from finresilience.durable.records import Claim, Claimed, ClaimToken, Indeterminate, InProgress, KeyState, Mismatch, Record, Replay
    from finresilience.durable.relay import Relay
    from finresilience.durable.relay_events import (
        MessageBuried,
        OutboxStoreFailed,
        PartitionTakenOver,
        PublisherFailing,
        PublishFailed,
        RelayFenced,
    )
    from finresilience.durable.seen import Counted, Duplicate, Fresh, Parked, ParkedMessage, Seen, Stale, Underway

__all__ = [
    "AnswerNotKept",
    "AnswerReplayed",
    "AsyncIdempotencyStore",
    "AsyncIdempotent",
    "AsyncInboxStore",
    "AsyncMemoryIdempotencyStore",
    "AsyncMemoryInboxStore",
    "AsyncMemoryOutbox",
    "AsyncOutboxStore",
    "Batch",
    "Claim",
    "ClaimLost",
    "ClaimToken",
    "Claimed",
    "Codec",
    "Counted",
    "CurrentClaim",
    "DeadLetter",
    "Duplicate",
    "DuplicateMessageError",
    "Exhausted",
    "Failure",
    "FencedError",
    "FinishedOtherwiseError",
    "Fresh",
    "HeirAsked",
    "IdempotencyStore",
    "Idempotent",
    "InProgress",
    "InboxStore",
    "Indeterminate",
    "KeyInProgressError",
    "KeyIndeterminateError",
    "KeyMismatchError",
    "KeyState",
    "LeaseTerms",
    "MemoryIdempotencyStore",
    "MemoryInboxStore",
    "MemoryOutbox",
    "MemoryTransaction",
    "MessageBuried",
    "Mismatch",
    "OutboxMessage",
    "OutboxRow",
    "OutboxStatistics",
    "OutboxStore",
    "OutboxStoreFailed",
    "Parked",
    "ParkedMessage",
    "PartitionLease",
    "PartitionTakenOver",
    "PublishFailed",
    "PublisherFailing",
    "Reason",
    "Record",
    "Relay",
    "RelayFenced",
    "Replay",
    "ReplayedDeclineError",
    "Seen",
    "Stale",
    "StaleRecordError",
    "StaleTokenError",
    "StoreBusyError",
    "StoreFullError",
    "StoreNotTold",
    "SyncIdempotent",
    "Underway",
    "UnreadableReplayError",
    "aconsume",
    "cloudevent",
    "cloudevent_headers",
    "columns",
    "consume",
    "current_claim",
    "dataclass_codec",
    "decline_codec",
    "failure_of",
    "fingerprint_of",
    "json_codec",
    "msgspec_codec",
    "operation_of",
    "partition_of",
]

_HOMES = {
    "AnswerNotKept": "idempotent_events",
    "AnswerReplayed": "idempotent_events",
    "AsyncIdempotencyStore": "idempotency",
    "AsyncIdempotent": "idempotent",
    "AsyncInboxStore": "inbox",
    "AsyncMemoryIdempotencyStore": "amemory_idempotency",
    "AsyncMemoryInboxStore": "amemory_inbox",
    "AsyncMemoryOutbox": "memory_outbox_async",
    "AsyncOutboxStore": "outbox",
    "Batch": "outbox",
    "Claim": "records",
    "ClaimLost": "idempotent_events",
    "ClaimToken": "records",
    "Claimed": "records",
    "Codec": "codecs",
    "Counted": "seen",
    "CurrentClaim": "idempotent_run",
    "DeadLetter": "outbox",
    "Duplicate": "seen",
    "DuplicateMessageError": "outbox",
    "Exhausted": "outbox",
    "Failure": "outbox",
    "FencedError": "outbox",
    "FinishedOtherwiseError": "errors",
    "Fresh": "seen",
    "HeirAsked": "idempotent_events",
    "IdempotencyStore": "idempotency",
    "Idempotent": "idempotent_operation",
    "InProgress": "records",
    "InboxStore": "inbox",
    "Indeterminate": "records",
    "KeyInProgressError": "idempotent_errors",
    "KeyIndeterminateError": "idempotent_errors",
    "KeyMismatchError": "idempotent_errors",
    "KeyState": "records",
    "LeaseTerms": "outbox",
    "MemoryIdempotencyStore": "memory_idempotency",
    "MemoryInboxStore": "memory_inbox",
    "MemoryOutbox": "memory_outbox",
    "MemoryTransaction": "memory_transaction",
    "MessageBuried": "relay_events",
    "Mismatch": "records",
    "OutboxMessage": "messages",
    "OutboxRow": "messages",
    "OutboxStatistics": "outbox",
    "OutboxStore": "outbox",
    "OutboxStoreFailed": "relay_events",
    "Parked": "seen",
    "ParkedMessage": "seen",
    "PartitionLease": "outbox",
    "PartitionTakenOver": "relay_events",
    "PublishFailed": "relay_events",
    "PublisherFailing": "relay_events",
    "Reason": "outbox",
    "Record": "records",
    "Relay": "relay",
    "RelayFenced": "relay_events",
    "Replay": "records",
    "ReplayedDeclineError": "idempotent_errors",
    "Seen": "seen",
    "Stale": "seen",
    "StaleRecordError": "errors",
    "StaleTokenError": "errors",
    "StoreBusyError": "errors",
    "StoreFullError": "errors",
    "StoreNotTold": "idempotent_events",
    "SyncIdempotent": "idempotent",
    "Underway": "seen",
    "UnreadableReplayError": "idempotent_errors",
    "aconsume": "consuming",
    "cloudevent": "messages",
    "cloudevent_headers": "messages",
    "columns": "messages",
    "consume": "consuming",
    "current_claim": "idempotent_run",
    "dataclass_codec": "codecs",
    "decline_codec": "codec_declines",
    "failure_of": "failures",
    "fingerprint_of": "fingerprints",
    "json_codec": "codecs",
    "msgspec_codec": "codecs",
    "operation_of": "idempotent",
    "partition_of": "messages",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
