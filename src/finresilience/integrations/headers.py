"""What do the headers of an incoming request say? Its time, its key, its attempts; all of it somebody else's word.

Nothing here trusts: a header that cannot be read is a `HeaderError`, whose message holds the name of the header and never what
it held. No number is taken from a header before its length is bounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from finresilience.context import MAX_KEY
from finresilience.errors import FinresilienceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TIMEOUT: Final = "Request-Timeout-Ms"  # as `outbound_headers()` writes it
GRPC_TIMEOUT: Final = "grpc-timeout"  # the only header of this kind that a specification describes
ATTEMPTS: Final = "Previous-Attempts"
KEYS: Final = ("Idempotency-Key", "X-Idempotency-Key")

MAX_DIGITS: Final = 18  # of milliseconds: more years than there were; a longer number would cost time to read
MAX_GRPC_DIGITS: Final = 8  # by the specification of gRPC over HTTP/2
MAX_ATTEMPT_DIGITS: Final = 6
_GRPC_UNITS: Final[Mapping[str, float]] = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


@final
class HeaderError(FinresilienceError, ValueError):
    """A header of the request cannot be read. It is the caller's mistake: nothing was done.

    Args:
        header: its name.
        reason: what is wrong with it, or missing, without what it held.
    """

    def __init__(self, header: str, reason: str) -> None:
        super().__init__(header, reason)
        self.header = header
        self.reason = reason

    def __str__(self) -> str:
        """Say what is wrong."""
        return f"{self.header} {self.reason}"


def incoming_timeout(scope: Mapping[str, Any], header: str = TIMEOUT) -> float | None:
    """Return the seconds that the caller still has, or None where it does not say.

    Args:
        scope: the ASGI scope of the request.
        header: where to look: a whole number of milliseconds, or, in `grpc-timeout`, what gRPC writes there.

    Raises:
        HeaderError: if it says anything else, or says it twice.
    """
    text = _only(scope, header)
    if text is None:
        return None
    if header.lower() == GRPC_TIMEOUT:
        unit = _GRPC_UNITS.get(text[-1:])
        if unit is None:
            raise HeaderError(header, "needs a unit at its end: H, M, S, m, u or n")
        return _whole(header, text[:-1], MAX_GRPC_DIGITS) * unit
    return _whole(header, text, MAX_DIGITS) / 1000


def incoming_attempts(scope: Mapping[str, Any]) -> int:
    """Return how many attempts the caller made before this one, 0 where it does not say.

    Args:
        scope: the ASGI scope of the request.

    Raises:
        HeaderError: if `Previous-Attempts` is not a whole number.
    """
    text = _only(scope, ATTEMPTS)
    return 0 if text is None else _whole(ATTEMPTS, text, MAX_ATTEMPT_DIGITS)


def incoming_key(scope: Mapping[str, Any]) -> str | None:
    """Return the caller's own idempotency key, or None where it gave none.

    `Idempotency-Key`, or `X-Idempotency-Key`: quoted, as the IETF draft has it, or bare, as most clients write it. Both are
    one key. It is the caller's word alone: two callers may use the same one for two payments.

    Args:
        scope: the ASGI scope of the request.

    Raises:
        HeaderError: if it is no key, or if there is more than one.
    """
    found = [(header, text) for header in KEYS if (text := _only(scope, header)) is not None]
    keys = {_bare(header, text) for header, text in found}
    if len(keys) > 1:
        raise HeaderError(KEYS[0], "and X-Idempotency-Key name two keys")
    return keys.pop() if keys else None


def _bare(header: str, text: str) -> str:
    """Return the key without the quotes of a structured-field string (RFC 9651, 3.3.3)."""
    quoted = text.startswith('"')
    key = _unquoted(header, text) if quoted else text
    if not key.strip():
        raise HeaderError(header, "is empty")
    if len(key) > MAX_KEY:
        raise HeaderError(header, f"is longer than {MAX_KEY} characters")
    if not key.isascii() or not key.isprintable():
        raise HeaderError(header, "holds characters that a key cannot have")
    if not quoted and ("," in key or '"' in key):  # a proxy joins two lines so: the key of a repeat would be another one
        raise HeaderError(header, "looks like several keys; a key with a comma or a quote must be quoted")
    if key != key.strip():  # some way stations strip, and then one payment would have two keys
        raise HeaderError(header, "begins or ends with a space")
    return key


def _unquoted(header: str, text: str) -> str:
    key: list[str] = []
    rest = iter(text[1:])
    for character in rest:
        if character == '"':
            if next(rest, None) is not None:
                raise HeaderError(header, "goes on after its closing quote")
            return "".join(key)
        if character == "\\":
            character = next(rest, "")  # noqa: PLW2901 - the escaped character takes the place of its escape
            if character not in {'"', "\\"}:
                raise HeaderError(header, "escapes what needs no escape")
        key.append(character)
    raise HeaderError(header, "lacks its closing quote")


def _whole(header: str, text: str, most: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > most:
        raise HeaderError(header, f"is not a whole number of at most {most} digits")
    return int(text)


def _only(scope: Mapping[str, Any], header: str) -> str | None:
    """Return the one value of a header. Twice is an error even if both agree: somebody on the way has added one."""
    wanted = header.lower().encode("ascii")
    pairs: Iterable[tuple[bytes, bytes]] = scope["headers"]
    found = [bytes(value) for name, value in pairs if bytes(name).lower() == wanted]
    if len(found) > 1:
        raise HeaderError(header, "is there more than once")
    return found[0].decode("latin-1").strip(" \t") if found else None
