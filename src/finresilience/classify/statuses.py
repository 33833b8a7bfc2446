"""What does an HTTP status tell about the money? As data; RFC 9110 (15), RFC 6585, RFC 8470 and what gateways do in practice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN, Classification

if TYPE_CHECKING:
    from collections.abc import Mapping

# Below 400 an answer is an ordinary answer: many providers redirect to a hosted page by 302 and 303. Raised as an error
# (`raise_for_status`, too many redirects) it is nobody's, and so UNKNOWN.
#
# From 400 on, what is not named here is UNKNOWN. RFC 9110 says to read an unknown 4xx as a 400, but gateways make up
# numbers for their own troubles (499 and 460: the client hung up, while the provider goes on), and a wrong "it did not
# happen" costs more than one question.
_NAMED: Final[Mapping[int, Classification]] = {
    400: NON_RETRYABLE,
    401: NON_RETRYABLE,
    402: NON_RETRYABLE,  # the decline of card processors
    403: NON_RETRYABLE,
    404: NON_RETRYABLE,
    405: NON_RETRYABLE,
    406: NON_RETRYABLE,
    407: NON_RETRYABLE,
    # 408 by its RFC means that no whole request came; gateways also send it for a slow provider behind them: UNKNOWN.
    # 409 is "key in use" or "already done": ask. UNKNOWN.
    410: NON_RETRYABLE,
    411: NON_RETRYABLE,
    412: NON_RETRYABLE,
    413: NON_RETRYABLE,
    414: NON_RETRYABLE,
    415: NON_RETRYABLE,
    416: NON_RETRYABLE,
    417: NON_RETRYABLE,
    421: RETRYABLE,  # misdirected: this server does not answer for that host, so it did nothing
    422: NON_RETRYABLE,
    # 423 and 424 are used for "somebody else holds it" and for failures further on: UNKNOWN.
    425: RETRYABLE,  # too early: refused because it might be a replay, so it did nothing (RFC 8470, 5.2)
    426: NON_RETRYABLE,
    428: NON_RETRYABLE,
    429: RETRYABLE,
    431: NON_RETRYABLE,
    451: NON_RETRYABLE,
    # 500, 502, 504 and their kin: something behind the one who answers may have carried it out. UNKNOWN.
    # 503 too, unless it says when to come back: then it is a load shedder that speaks, not a broken half-way hop.
}

STATUSES: Final[Mapping[int, Classification]] = {status: _NAMED.get(status, UNKNOWN) for status in range(400, 1000)}
WITH_RETRY_AFTER: Final[Mapping[int, Classification]] = {503: RETRYABLE}

# An earlier exchange of the same call that ended so moved nothing: it was refused, or told to be repeated elsewhere.
MOVED_NOTHING: Final = frozenset({307, 308, *(status for status, told in STATUSES.items() if told is not UNKNOWN)})
