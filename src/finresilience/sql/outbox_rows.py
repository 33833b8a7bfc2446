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
_set: Final = object.__setattr__


def row_of(row: Sequence[Any], dialect: Dialect) -> OutboxRow:
    """Return the row whose values these are, in the order of `COLUMNS`."""
    seq, made, topic, key, kind, payload, headers, tenant, content_type, version, trace, part, attempts, takeovers, created = row
    # Not by its constructor, which would check again, row by row, what was checked before it was written.
    message = object.__new__(OutboxMessage)
    _set(message, "topic", topic)
    _set(message, "key", key)
    _set(message, "type", kind)
    _set(message, "payload", payload if type(payload) is bytes else bytes(payload))
    _set(message, "id", dialect.id(made))
    _set(message, "tenant", tenant)
    _set(message, "headers", _NONE if headers == "{}" else MappingProxyType(json.loads(headers)))
    _set(message, "traceparent", trace)
    _set(message, "content_type", content_type)
    _set(message, "schema_version", version)
    return OutboxRow(seq=seq, part=part, message=message, attempts=attempts, takeovers=takeovers, created_at=dialect.moment(created))
