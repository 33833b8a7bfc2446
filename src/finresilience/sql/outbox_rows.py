"""How is a row of an outbox read back as the message that it was?"""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from finresilience.durable.messages import OutboxMessage, OutboxRow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from finresilience.sql.dialects import Dialect

EVENT: Final = (
    "id",
    "aggregatetype",
    "aggregateid",
    "type",
    "payload",
    "headers",
    "tenant",
    "content_type",
    "schema_version",
    "traceparent",
    "part",
    "attempts",
    "takeovers",
    "created_at",
)
"""The columns that a pending row and a dead letter share."""

COLUMNS: Final = ("seq", *EVENT)
_NONE: Final[Mapping[str, str]] = MappingProxyType({})
_setters: Final = [
    getattr(OutboxMessage, name).__set__
    for name in ("topic", "key", "type", "payload", "id", "tenant", "headers", "traceparent", "content_type", "schema_version")
]


def row_of(row: Sequence[Any], dialect: Dialect) -> OutboxRow:
    """Return the row whose values these are, in the order of `COLUMNS`."""
    seq, made, topic, key, kind, payload, headers, tenant, content_type, version, trace, part, attempts, takeovers, created = row
    # Not by its constructor, which would check again, row by row, what was checked before it was written.
    message = object.__new__(OutboxMessage)
    body = payload if type(payload) is bytes else bytes(payload)
    told = _NONE if headers == "{}" else MappingProxyType(json.loads(headers))
    values = (topic, key, kind, body, dialect.id(made), tenant, told, trace, content_type, version)
    for put, value in zip(_setters, values, strict=True):
        put(message, value)
    return OutboxRow(seq=seq, part=part, message=message, attempts=attempts, takeovers=takeovers, created_at=dialect.moment(created))
