"""When are two HTTP requests under one idempotency key the same, and whose is the key? Values and rulings; nothing waits."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, TypeAlias, final

from finresilience._checks import refuse
from finresilience.durable.records import MAX_TEXT

VERSION: Final = "1"  # of fingerprints: what another version has claimed is told from what this one would, and never run for it
MAX_BODY: Final = 1 << 20

# ---------------------------------------------------------------- requests


@final
@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request, as far as it can be compared with another. It shows nothing but its method when it is printed.

    Args:
        method: in capitals.
        path: as the framework routes it.
        query: the query string, as it came.
        content_type: the header, as it came.
        body: all of it.
    """

    method: str
    path: str = field(repr=False)
    query: bytes = field(default=b"", repr=False)
    content_type: str = field(default="", repr=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def media_type(self) -> str:
        """The content type without its parameters, which change with a client's version, and never what is asked for."""
        return self.content_type.partition(";")[0].strip().lower()


Fingerprint: TypeAlias = Callable[[HttpRequest], str | bytes]


def request_fingerprint(request: HttpRequest) -> bytes:
    """Return what makes two requests the same: query, media type and each byte of the body. The default."""
    return _glued(b"raw", request.query, request.media_type.encode("latin-1", "replace"), request.body)


def json_fingerprint(*without: str) -> Fingerprint:
    """Return a fingerprint that does not mind how a JSON object is written, for clients who write it anew for each attempt.

    Order and spaces do not matter; numbers do, as they are written: 1.0 is not 1. What is no plain JSON is compared byte for byte.

    Args:
        *without: members of the object that change from attempt to attempt, such as "sent_at".
    """
    if not all(isinstance(name, str) and name for name in without):
        refuse("without", without, "names of members, such as 'sent_at'")
    left_out = frozenset(without)

    def fingerprint(request: HttpRequest) -> bytes:
        written = _canonical_json(request.body, left_out) if request.media_type.endswith("json") else None
        if written is None:
            return request_fingerprint(request)
        return _glued(b"json", request.query, written.encode("utf-8", "surrogatepass"))

    return fingerprint


def fingerprint_of(request: HttpRequest, told_by: Fingerprint = request_fingerprint) -> str:
    """Return the digest by which a store tells requests apart: of method, path, and what `told_by` says of the rest.

    Raises:
        ConfigurationError: if `told_by` returns neither text nor bytes.
    """
    said = told_by(request)
    if not isinstance(said, str | bytes):
        refuse("fingerprint", said, "a function of the HttpRequest that returns str or bytes")
    rest = said.encode("utf-8", "surrogatepass") if isinstance(said, str) else said
    digest = sha256(_glued(request.method.encode("latin-1", "replace"), request.path.encode("utf-8", "surrogatepass"), rest))
    return f"{VERSION}:{digest.hexdigest()}"


def _glued(*parts: bytes) -> bytes:
    """Return the parts as one: each behind its length, so that none can pass for the beginning of the next."""
    return b"".join(b"%d:%b" % (len(part), part) for part in parts)


class _Number(str):
    """A number of JSON, as it was written."""

    __slots__ = ()


def _canonical_json(body: bytes, without: frozenset[str]) -> str | None:
    try:
        told = json.loads(body, parse_int=_Number, parse_float=_Number, parse_constant=_Number, object_pairs_hook=_without_doubles)
        if isinstance(told, dict):
            told = {name: value for name, value in told.items() if name not in without}
        return _written(told)
    except (ValueError, RecursionError):  # no JSON, a member that is there twice, or a tower of brackets
        return None


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    told = dict(pairs)
    if len(told) != len(pairs):
        message = "a member is there twice: which of them holds is anybody's guess"
        raise ValueError(message)
    return told


def _written(value: Any) -> str:
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{_written(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    return json.dumps(value)


def key_space(owner: str, operation: str = "") -> str:
    """Return the `scope` under which a store keeps the keys of one owner, or of one of its operations; for `purge`, `find` and people.

    Args:
        owner: who the caller is: tenant or account.
        operation: such as "POST /payments"; empty: all operations share the keys.

    Raises:
        ConfigurationError: if the owner is no text, or empty: all callers would share their keys.

    >>> key_space("merchant_1", "POST /payments")
    'POST /payments|merchant_1'
    """
    if not isinstance(owner, str) or not owner.strip():
        refuse("scope", owner, "a function that says who the caller is, as a str that is not empty")
    if not isinstance(operation, str):
        refuse("operation", operation, "a function that returns a str, such as 'POST /payments'")
    parts = (operation, owner) if operation else (owner,)
    text = "|".join(part.replace("%", "%25").replace("|", "%7C") for part in parts)
    if len(text) <= MAX_TEXT and text.isprintable():
        return text
    return "|" + sha256(text.encode("utf-8", "surrogatepass")).hexdigest()  # no owner and no operation begins so
