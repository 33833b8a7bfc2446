"""What is kept of an HTTP answer under an idempotency key, and what does it say of the work? Values and rulings; nothing waits.

An answer is kept as bytes, with the headers that may be replayed; its status says how the work ended: it happened, it did not, or
nobody knows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, final

from finresilience._checks import refuse
from finresilience.integrations.problems import MEDIA_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

REPLAYED: Final = "Idempotent-Replayed"
MOST_READ: Final = 1 << 16  # bytes of a 422 that are looked into
KEPT_HEADERS: Final = (
    *("content-type", "content-encoding", "content-language", "content-disposition"),
    *("location", "content-location", "etag", "last-modified", "link"),
)
"""Which headers of an answer are kept, and replayed. A body cannot be read without some of them."""

NEVER_KEPT: Final = frozenset(
    {
        *("authorization", "proxy-authorization", "authentication-info", "proxy-authentication-info"),  # of one caller, for one moment
        *("www-authenticate", "proxy-authenticate", "set-cookie", "set-cookie2", "cookie", "clear-site-data"),
        *("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),  # of one connection
        *("content-length", "date", "server", "age", "retry-after", REPLAYED.lower()),  # of one answer
    }
)

# ---------------------------------------------------------------- answers


@final
@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer as it is kept. It shows nothing but its status when it is printed.

    Args:
        status: its status.
        headers: those that may be replayed, with lower-case names.
        body: all of it.
        kept: False where the body was too large to be kept.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    kept: bool = True

    @classmethod
    def json(cls, status: int, content: Any, **headers: str) -> HttpAnswer:
        """Return an answer in JSON, such as the one that `resolve` is given when evidence has come."""
        more = tuple((name.replace("_", "-").lower(), value) for name, value in headers.items())
        return cls(status, (("content-type", "application/json"), *more), json.dumps(content).encode("utf-8"))

    def stored(self, *, most: int) -> bytes:
        """Return it as bytes for a store, at most so many: without its body, and then without its headers, if need be."""
        for answer in (self, HttpAnswer(self.status, self.headers, kept=False), HttpAnswer(self.status, kept=False)):
            head = {"status": answer.status, "headers": answer.headers, "kept": answer.kept}
            told = _MAGIC + json.dumps(head).encode("ascii") + b"\n" + answer.body
            if len(told) <= most:
                return told
        return b""

    @classmethod
    def read(cls, stored: bytes) -> HttpAnswer | None:
        """Return the answer that was stored, or None if these bytes are none of ours: somebody else wrote them."""
        head, newline, body = stored.removeprefix(_MAGIC).partition(b"\n")
        if not stored.startswith(_MAGIC) or not newline:
            return None
        try:
            told = json.loads(head)
            status, kept = told["status"], told["kept"]
            headers = tuple((name, value) for name, value in told["headers"] if isinstance(name, str) and isinstance(value, str))
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        if not isinstance(kept, bool) or not isinstance(status, int) or isinstance(status, bool) or not 200 <= status <= 599:
            return None
        return cls(status, headers, body, kept)


_MAGIC: Final = b"http 1\n"


def kept_headers(names: Iterable[str]) -> frozenset[str]:
    """Return the names in lower case, if all of them may be kept.

    Raises:
        ConfigurationError: if one of them belongs to one caller, one connection or one moment.
    """
    several = (names,) if isinstance(names, str) else tuple(names)
    for name in several:
        if not isinstance(name, str) or not name or not name.isascii() or not name.isprintable() or " " in name:
            refuse("keep_headers", name, "names of headers")
        if name.lower() in NEVER_KEPT:
            refuse("keep_headers", name, f"names of headers other than {name.lower()}, which is never replayed")
    return frozenset(name.lower() for name in several)


# ---------------------------------------------------------------- ends


@final
class End(StrEnum):
    """How the work behind an answer ended, and so what becomes of its key."""

    COMPLETE = "complete"  # it happened: the answer is kept and replayed
    FAIL = "fail"  # it did not, and will not: the answer is kept and replayed
    RELEASE = "release"  # surely nothing was begun: the key is free
    INDETERMINATE = "indeterminate"  # it may have happened: nothing runs again under this key until somebody has found out


@final
@dataclass(frozen=True, slots=True)
class Answered:
    """What an application answered.

    Args:
        status: its status.
        headers: all of its headers, with lower-case names.
        body: all of it, unless it was too large.
        sent: whether a guarded call inside, other than a READ, may have been sent.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    sent: bool = False


# Said by a gate, before the work is begun, or of a state that passes: the same request may fare better later.
#
# 408 is not among them: from inside of an application it tells of something slow behind it. Nor are 424 and those that gateways make up.
NOT_BEGUN: Final = frozenset({401, 403, 404, 405, 406, 407, 409, 411, 413, 414, 415, 421, 423, 425, 426, 428, 429, 431})

# The answer is no, and stays no. 400 and 422 are among them although they are harmless to repeat: a caller who was told no may have paid
# otherwise meanwhile, and then a late repeat must not succeed.
NO: Final = frozenset({400, 402, 410, 412, 416, 417, 422, 451})


def end_of(answered: Answered) -> End:
    """Return how the work ended, by the answer alone. Where that leaves a doubt, nobody knows.

    - below 400: it happened; but a problem (RFC 9457) below 400 is our own 202: nobody knows;
    - 402 and other final noes: it will not; what FastAPI says of a request that it could not read is no such no: nothing was begun;
    - 401, 403, 429 and others of a gate, 503 with Retry-After: nothing was begun, unless a guarded call inside may have been sent;
    - all the rest: nobody knows.
    """
    status = answered.status
    if status < 400:
        told = answered.headers.get("content-type", "").partition(";")[0].strip().lower()
        return End.INDETERMINATE if told == MEDIA_TYPE else End.COMPLETE
    is_gate = status in NOT_BEGUN or (status == 503 and "retry-after" in answered.headers) or _is_unreadable(answered)
    if is_gate:
        return End.INDETERMINATE if answered.sent else End.RELEASE
    return End.FAIL if status in NO else End.INDETERMINATE


def _is_unreadable(answered: Answered) -> bool:
    """Return whether FastAPI says that it could not read the request: its own words, before the endpoint was begun."""
    if answered.status != 422 or len(answered.body) > MOST_READ:
        return False
    try:
        told = json.loads(answered.body)
    except (ValueError, RecursionError):
        return False
    detail = told.get("detail") if isinstance(told, dict) else None
    return isinstance(detail, list) and bool(detail) and all(map(_is_of_fastapi, detail))


def _is_of_fastapi(item: Any) -> bool:
    if not isinstance(item, dict) or not {"type", "loc", "msg"} <= item.keys():
        return False
    place = item["loc"]
    return isinstance(place, list) and bool(place) and place[0] in _PLACES


_PLACES: Final = ("body", "query", "path", "header", "cookie")  # compared, not hashed: it is the application that wrote the body
