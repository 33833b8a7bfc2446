"""How is an event written beside the effect that it tells of? In the caller's transaction, when it commits, and locked by key.

A place in the outbox is given when a row is inserted, and seen when its transaction commits: of two transactions on one key the later
commit could have the earlier place. So a transaction takes a lock of its keys before it inserts, and holds it until it has committed. All
that it adds is written in one statement, at its end, with the locks in one order for everybody: no two can wait for each other, and a hot
key is locked for as long as a commit takes. SQLite has one writer, who is lock enough.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, final
from zlib import crc32

from finresilience.durable.messages import partition_of
from finresilience.durable.outbox import MOST_AT_ONCE, DuplicateMessageError
from finresilience.sql.statements import Deed, Sql

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finresilience.durable.messages import OutboxMessage
    from finresilience.sql.dialects import Dialect

SLOTS: Final = 1024  # locks that the keys of an outbox share: a transaction never fills the server's table of locks
_KINDS: Final = {  # of each column that is written, in PostgreSQL's words
    "id": "uuid",
    "aggregatetype": "text",
    "aggregateid": "text",
    "type": "text",
    "payload": "bytea",
    "headers": "text",
    "tenant": "text",
    "content_type": "text",
    "schema_version": "integer",
    "traceparent": "text",
    "part": "smallint",
}


@final
class OutboxWrites:
    """The statements that add to an outbox."""

    def __init__(self, outbox: str, dead: str, dialect: Dialect, *, partitions: int, ordered: bool) -> None:
        self._dialect = dialect
        self._partitions = partitions
        self._is_locked = ordered and dialect.name == "postgresql"
        self._space = crc32(outbox.encode()) - (1 << 31)  # so that the locks of two outboxes, and yours, have nothing to do with each other
        names = ", ".join(_KINDS)
        values = ", ".join(f":{name}" for name in _KINDS)
        self._plain = Sql(f"INSERT INTO {outbox} ({names}, created_at) VALUES ({values}, {dialect.now})")
        typed = ", ".join(f"CAST(:{name} AS {kind})" for name, kind in _KINDS.items())
        self._locked = Sql(
            f"INSERT INTO {outbox} ({names}, created_at) SELECT {typed}, {dialect.now} "
            "FROM (SELECT pg_advisory_xact_lock(CAST(:space AS integer), CAST(:slot AS integer)) OFFSET 0) held"
        )
        lists = ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in _KINDS.items())
        each = "SELECT DISTINCT slot FROM unnest(CAST(:slots AS integer[])) AS given (slot) ORDER BY slot"
        locks = f"SELECT count(pg_advisory_xact_lock(CAST(:space AS integer), slot)) FROM ({each}) AS sorted"
        told = f"SELECT {names}, place FROM unnest({lists}) WITH ORDINALITY AS given ({names}, place)"
        self._many = Sql(
            f"WITH held AS MATERIALIZED ({locks}) INSERT INTO {outbox} ({names}, created_at) SELECT {names}, {dialect.now} "
            f"FROM ({told}) AS told CROSS JOIN held ORDER BY place"
        )
        self._many_plain = Sql(
            f"INSERT INTO {outbox} ({names}, created_at) SELECT {names}, {dialect.now} FROM ({told}) AS told ORDER BY place"
        )
        self._in_one = dialect.name == "postgresql"
        self._taken = Sql(f"SELECT 1 FROM {outbox} WHERE id = :id UNION ALL SELECT 1 FROM {dead} WHERE id = :id")

    def add(self, messages: Sequence[OutboxMessage], given: Sequence[OutboxMessage]) -> Deed[None]:
        """Insert these, in this order; `given` are those of them whose id somebody else made."""
        for message in given:
            if (yield self._taken, {"id": self._dialect.parameter(_id(message))}):
                raise DuplicateMessageError
        if not self._in_one:
            for message in messages:
                yield self._plain, self._values(message)
        elif len(messages) == 1:
            values = self._values(messages[0])
            if self._is_locked:
                yield self._locked, values | {"space": self._space, "slot": slot_of(messages[0])}
            else:
                yield self._plain, values
        else:
            for first in range(0, len(messages), MOST_AT_ONCE):
                yield self._lists(messages[first : first + MOST_AT_ONCE], messages)

    def _lists(self, some: Sequence[OutboxMessage], all_of_them: Sequence[OutboxMessage]) -> tuple[Sql, dict[str, Any]]:
        rows = [self._values(message) for message in some]
        told: dict[str, Any] = {name: [row[name] for row in rows] for name in _KINDS}
        if not self._is_locked:
            return self._many_plain, told
        slots = [slot_of(message) for message in all_of_them]
        return self._many, told | {"space": self._space, "slots": slots}

    def _values(self, message: OutboxMessage) -> dict[str, Any]:
        return {
            "id": self._dialect.parameter(_id(message)),
            "aggregatetype": message.topic,
            "aggregateid": message.key,
            "type": message.type,
            "payload": message.payload,
            "headers": json.dumps(dict(message.headers), ensure_ascii=False) if message.headers else "{}",
            "tenant": message.tenant,
            "content_type": message.content_type,
            "schema_version": message.schema_version,
            "traceparent": message.traceparent,
            "part": partition_of(message.tenant, message.key, self._partitions),
        }


def slot_of(message: OutboxMessage) -> int:
    """Return which lock a key has. Two keys that share one wait for each other, and that is all."""
    return partition_of(message.tenant, message.key, SLOTS)


def _id(message: OutboxMessage) -> Any:
    assert message.id is not None, "every message has an id before it is written"  # noqa: S101 - kept by whoever calls
    return message.id
