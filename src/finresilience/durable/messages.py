"""What is told to the world, and once it is told, how? One event as it is written beside the effect that it tells of."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, final
from uuid import UUID

from finresilience._checks import positive_count, refuse

if TYPE_CHECKING:
    from datetime import datetime

MAX_PAYLOAD: Final = 1_000_000  # bytes: what common brokers take by default, and a little less
MAX_HEADERS: Final = 64
MAX_HEADER: Final = 8_192  # characters of one value
MAX_WORD: Final = 255  # of a topic, a key, a type, a tenant: what an index holds and a broker takes
JSON: Final = "application/json"
BYTES: Final = "application/octet-stream"

_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class OutboxMessage:
    """One event to be published, frozen when it is made: what happens to the given payload afterwards changes nothing.

    Args:
        topic: where it goes (Debezium's `aggregatetype`).
        key: whose event it is, such as an account (`aggregateid`): events of one tenant and key are published in order.
        type: what happened, such as "PaymentInitiated".
        payload: bytes, or anything that JSON can hold; kept as bytes.
        id: known to consumers, who drop what they have seen; the store gives one that rises with time, where this is None.
        tenant: whose data it is, if there are several.
        headers: text for the broker's headers; none may break a line.
        traceparent: of the trace that wrote it (W3C), so that the publisher's span can be linked to it.
        content_type: of the payload; JSON or bytes by default.
        schema_version: of the payload.

    Raises:
        ConfigurationError: if something cannot be stored or published; the message names it and never shows its value.
    """

    topic: str
    key: str
    type: str
    payload: Any
    id: UUID | None = None
    tenant: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    traceparent: str | None = None
    content_type: str = ""
    schema_version: int = 1

    def __post_init__(self) -> None:
        for name in ("topic", "key", "type"):
            _word(name, getattr(self, name))
        if self.tenant is not None:
            _word("tenant", self.tenant)
        if self.id is not None and not isinstance(self.id, UUID):
            refuse("id", self.id, "a uuid.UUID, or None for one that the store makes")
        if self.traceparent is not None and not (isinstance(self.traceparent, str) and _TRACEPARENT.fullmatch(self.traceparent)):
            refuse("traceparent", self.traceparent, "a W3C traceparent, such as 00-<32 hex digits>-<16 hex digits>-01")
        positive_count("schema_version", self.schema_version)
        plain = isinstance(self.payload, bytes | bytearray | memoryview)
        object.__setattr__(self, "content_type", _content_type(self.content_type or (BYTES if plain else JSON)))
        object.__setattr__(self, "payload", _encoded(self.payload))
        object.__setattr__(self, "headers", _headers(self.headers))

    def json(self) -> Any:
        """Return the payload read as JSON.

        Raises:
            ValueError: if it is not JSON.
        """
        return json.loads(self.payload)

    def with_id(self, made: UUID) -> OutboxMessage:
        """Return the message with this id, unless it has one already."""
        if self.id is not None:
            return self
        copy = object.__new__(OutboxMessage)  # not by the constructor: all but the id was checked when this one was made
        for name in _FIELDS:
            object.__setattr__(copy, name, getattr(self, name))
        object.__setattr__(copy, "id", made)
        return copy

    def __reduce__(self) -> tuple[object, ...]:
        """Survive a queue or a process pool."""
        told = {one.name: getattr(self, one.name) for one in fields(self)}
        return (_remade, (told | {"headers": dict(self.headers)},))

    def __hash__(self) -> int:
        """Hash what tells messages apart."""
        return hash((self.id, self.topic, self.tenant, self.key, self.type, self.payload))

    def __repr__(self) -> str:
        """Show what kind of event it is; its key and its payload may say whose money moved."""
        return f"<OutboxMessage {self.type} to {self.topic}, {len(self.payload)} bytes>"


_FIELDS: Final = tuple(one.name for one in fields(OutboxMessage) if one.name != "id")


def _remade(told: dict[str, Any]) -> OutboxMessage:
    return OutboxMessage(**told)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRow:
    """A message as the outbox holds it.

    Attributes:
        seq: its place: of one tenant and key, a lower one is published first. Publish it as a header, so that consumers can tell a
            message that comes late.
        part: the partition that it belongs to.
        message: with its id.
        attempts: how often publishing it has failed.
        takeovers: how often its relay died while this row may have been in its hands.
        created_at: when it was added, by the store's clock.
    """

    seq: int
    part: int
    message: OutboxMessage
    attempts: int
    takeovers: int
    created_at: datetime

    @property
    def id(self) -> UUID:
        """The id that consumers know it by."""
        known = self.message.id
        assert known is not None, "a store gives every row an id"  # noqa: S101 - kept by each store's contract
        return known

    @property
    def line(self) -> tuple[str | None, str]:
        """Whose order it keeps: its tenant and key."""
        return (self.message.tenant, self.message.key)


def uuid7(milliseconds: int, chance: int) -> UUID:
    """Return a version 7 UUID (RFC 9562) of this Unix time and 74 bits of chance: later ones sort later."""
    stamp, luck = milliseconds & (1 << 48) - 1, chance & (1 << 74) - 1
    return UUID(int=stamp << 80 | 0x7 << 76 | (luck >> 62) << 64 | 0b10 << 62 | luck & (1 << 62) - 1)


def partition_of(tenant: str | None, key: str, partitions: int) -> int:
    """Return the partition of a tenant and key. Fixed for ever: relays and stores of all versions and languages must agree.

    It is the first 8 bytes, big-endian, of the SHA-256 of `<n>:<tenant><key>` in UTF-8, where n is the tenant's length in bytes
    or `-` without one, modulo the number of partitions.
    """
    whose = b"-:" if tenant is None else b"%d:%b" % (len(told := tenant.encode()), told)
    return int.from_bytes(sha256(whose + key.encode()).digest()[:8], "big") % partitions


def columns(row: OutboxRow) -> dict[str, Any]:
    """Return the row under the column names of Debezium's outbox event router, and ours beside them."""
    message = row.message
    headers = {**message.headers, "content-type": message.content_type, "schema-version": str(message.schema_version)}
    if message.traceparent is not None:
        headers["traceparent"] = message.traceparent
    return {
        "id": row.id,
        "aggregatetype": message.topic,
        "aggregateid": message.key,
        "type": message.type,
        "payload": message.payload,
        "headers": headers,
        "tenant": message.tenant,
        "seq": row.seq,
        "part": row.part,
        "attempts": row.attempts,
        "created_at": row.created_at,
    }


def cloudevent(row: OutboxRow, *, source: str) -> dict[str, Any]:
    """Return the row as a CloudEvents 1.0 event in JSON format: JSON payloads as `data`, all others as `data_base64`."""
    event: dict[str, Any] = _attributes(row, source)
    message = row.message
    if message.content_type.partition(";")[0].strip().lower() in {JSON, "text/json"} or "+json" in message.content_type:
        event["data"] = message.json()
    else:
        event["data_base64"] = b64encode(message.payload).decode()
    return event


def cloudevent_headers(row: OutboxRow, *, source: str, prefix: str = "ce-") -> dict[str, str]:
    """Return the row's CloudEvents 1.0 attributes as headers in binary mode; the payload goes beside them as it is.

    Args:
        row: what to tell of.
        source: who tells it, a URI reference.
        prefix: `ce-` for HTTP and NATS; `ce_` for Kafka.
    """
    told = _attributes(row, source)
    headers = {"content-type": told.pop("datacontenttype")}
    return headers | {prefix + name: _percent(value) for name, value in told.items()}


def _attributes(row: OutboxRow, source: str) -> dict[str, str]:
    if not isinstance(source, str) or not source.strip() or not source.isprintable():
        refuse("source", source, "a non-empty URI reference that says who tells, such as '/payments'")
    message = row.message
    told: dict[str, str] = {
        "specversion": "1.0",
        "id": str(row.id),
        "source": source,
        "type": message.type,
        "subject": message.key,
        "time": row.created_at.isoformat().replace("+00:00", "Z"),
        "datacontenttype": message.content_type,
        "partitionkey": message.key,
        "sequence": f"{row.seq:020d}",  # compared as text
        "schemaversion": str(message.schema_version),
    }
    if message.tenant is not None:
        told["tenant"] = message.tenant
    for name in ("traceparent", "tracestate"):
        value = message.traceparent if name == "traceparent" else message.headers.get(name)
        if value is not None:
            told[name] = value
    return told


def _percent(value: str) -> str:
    """Return a header's value as the HTTP binding writes it: space, quote, percent and what is not ASCII, percent-encoded."""
    plain = all("!" <= letter <= "~" and letter not in '"%' for letter in value)
    return value if plain else "".join(_letter(byte) for byte in value.encode())


def _letter(byte: int) -> str:
    return chr(byte) if 0x21 <= byte <= 0x7E and byte not in b'"%' else f"%{byte:02X}"


def _word(name: str, value: object) -> None:
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_WORD or not value.isprintable():
        refuse(name, value, f"printable text of 1 to {MAX_WORD} characters")  # half a character is not printable


def _content_type(value: object) -> str:
    if not isinstance(value, str) or "/" not in value or len(value) > MAX_WORD or not value.isprintable() or not value.isascii():
        refuse("content_type", value, "a media type, such as 'application/json'")
    return value


def _encoded(payload: object) -> bytes:
    if isinstance(payload, bytes | bytearray | memoryview):
        told = bytes(payload)
    else:
        try:
            told = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        except (TypeError, ValueError, RecursionError):  # a NaN, a Decimal, half a character, a circle
            refuse("payload", payload, "bytes, or what JSON can hold exactly: text, finite numbers, lists, dicts; amounts as text")
    if len(told) > MAX_PAYLOAD:
        refuse("payload", payload, f"at most {MAX_PAYLOAD:,} bytes; put a larger one elsewhere, and its address here")
    return told


def _headers(headers: object) -> Mapping[str, str]:
    if not isinstance(headers, Mapping) or len(headers) > MAX_HEADERS:
        refuse("headers", headers, f"a mapping of at most {MAX_HEADERS} names to text")
    told: dict[str, str] = {}
    for name, value in headers.items():
        if not isinstance(name, str) or _HEADER_NAME.fullmatch(name) is None:
            refuse("headers", name, "names of letters, digits and hyphens, at most 128 characters")
        if not isinstance(value, str) or len(value) > MAX_HEADER or not value.isprintable():
            refuse(f"headers[{name!r}]", value, f"printable text of at most {MAX_HEADER:,} characters")
        told[name] = value
    return MappingProxyType(told)
