"""What do an error's own frames prove? That the connection was still being made, or that something had been sent before.

Client libraries hide two things that money depends on:

- a failed handshake may look like a failed read (urllib3: `ProtocolError`, `ReadTimeoutError`), a total timeout never
  says what it interrupted (aiohttp, asyncio);
- one call may be several exchanges. After a redirect, or a retry of the client's own, "connection refused" speaks of the
  last one only: the payment may have been taken by the first.

The traceback has both, as a record of which functions ran. Functions are named by module and name, nothing is imported,
and no message is read. A renamed function makes the first kind of proof fail, safely: UNKNOWN. The second kind is held
against the installed clients by tests over real sockets.
"""

from __future__ import annotations

from errno import EADDRINUSE, EADDRNOTAVAIL, EMFILE, ENFILE
from typing import TYPE_CHECKING, Final, cast

from finresilience.classify.clients import UNSENT, Phase, phase_of
from finresilience.classify.extract import MAX_LINKS, attribute, class_names, links, status_of
from finresilience.classify.statuses import MOVED_NOTHING
from finresilience.errors import FinresilienceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import FrameType

MAX_FRAMES: Final = 1000  # a traceback can be as deep as the recursion limit allows

# While one of these runs, nothing of the request has been written.
CONNECTING: Final = frozenset(
    {
        ("socket", "create_connection"),
        ("ssl", "do_handshake"),
        ("http.client", "_tunnel"),  # asking a proxy for a way through
        ("urllib3.connection", "_tunnel"),
        ("urllib3.util.connection", "create_connection"),
        ("asyncio.base_events", "create_connection"),
        ("anyio._core._sockets", "connect_tcp"),
        ("trio._highlevel_open_tcp_stream", "open_tcp_stream"),
        ("aiohttp.connector", "connect"),  # waiting for the pool, looking up, connecting, shaking hands, tunnelling
    }
)

_POOL_WAIT: Final = ("aiohttp.connector", "_wait_for_available_connection")  # its error is the one of a slow connect
_AIOHTTP: Final = ("aiohttp.client", "_request")

# Where a client that goes on after an answer (or a loss) keeps what went before: names in its frames...
EARLIER: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("httpx._client", "_send_handling_redirects"): ("history", "response"),
    ("httpx2._client", "_send_handling_redirects"): ("history", "response"),
    _AIOHTTP: ("history",),
    ("requests.sessions", "resolve_redirects"): ("hist",),
    ("requests.sessions", "send"): ("r",),
    ("urllib3.connectionpool", "urlopen"): ("retries.history",),
    ("urllib.request", "http_error_302"): ("fp",),
}
# ... and attributes of its responses, and of the errors that carry one.
KEPT: Final = ("history", "response.history", "retries.history")

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # they move nothing (RFC 9110, 9.2.1)
_SHORTAGES: Final = frozenset({EMFILE, ENFILE, EADDRNOTAVAIL, EADDRINUSE})


def settled_phase(error: BaseException) -> Phase | None:
    """Return the phase of the first link that says one, or None where no link does."""
    for link in links(error):
        phase = phase_of(link)
        if phase is not None and phase is not Phase.INSIDE:
            return phase
    return None


def connecting(error: BaseException) -> bool:
    """True where the connection was certainly still being made, so that nothing had been sent on it."""
    return any(where in CONNECTING for link in links(error) for where, _ in _frames(link))


def sent_before(subject: object) -> bool:
    """True where an earlier exchange of the same call, redirected or retried by the client itself, may have moved money."""
    if any(_may_have_moved(exchange) for path in KEPT for exchange in _kept(subject, path)):
        return True
    if not isinstance(subject, BaseException):
        return False
    return any(_went_on(where, frame) for link in links(subject) for where, frame in _frames(link))


def never_sent(error: BaseException) -> bool:
    """True where the connection was still being made, and no earlier exchange of the same call can have moved money."""
    return connecting(error) and not sent_before(error)


def our_shortage(error: BaseException) -> bool:
    """True where our own machine ran out of sockets or ports, or our own pool of connections."""
    return any(is_shortage(link) or any(where == _POOL_WAIT for where, _ in _frames(link)) for link in links(error))


def is_shortage(error: BaseException) -> bool:
    """True for "too many open files" and for ports that are gone: no provider can help.

    An error that names a file is about that file, and may have come after the call.
    """
    return attribute(error, "errno") in _SHORTAGES and attribute(error, "filename") is None


def _frames(error: BaseException) -> Iterator[tuple[tuple[str, str], FrameType]]:
    traceback = error.__traceback__
    for _ in range(MAX_FRAMES):
        if traceback is None:
            return
        frame = traceback.tb_frame
        yield (str(frame.f_globals.get("__name__")), frame.f_code.co_name), frame
        traceback = traceback.tb_next


def _went_on(where: tuple[str, str], frame: FrameType) -> bool:
    """True where this frame is of a client that had already exchanged something, which may have moved money."""
    names = EARLIER.get(where)
    if names is None:
        return False
    local: Mapping[str, object] = frame.f_locals
    if where == _AIOHTTP and local.get("retry_persistent_connection") is False and local.get("method") in ("PUT", "DELETE"):
        return True  # a kept connection broke, and aiohttp sent it a second time on its own
    for name in names:
        first, _, rest = name.partition(".")
        if any(_may_have_moved(exchange) for exchange in _kept(local.get(first), rest)):
            return True
    return False


def _kept(holder: object, path: str) -> list[object]:
    """Return the exchanges that `path` leads to; what is not there is none."""
    found = holder
    for name in path.split(".") if path else ():
        found = attribute(found, name)
    if isinstance(found, list | tuple):
        return [*cast("tuple[object, ...]", found)]
    return [] if found is None else [found]


def _may_have_moved(exchange: object) -> bool:
    """Judge one earlier exchange: a response, or urllib3's record of one. What is neither tells nothing."""
    status = attribute(exchange, "status_code") or attribute(exchange, "status")
    method = attribute(exchange, "method") or attribute(attribute(exchange, "request"), "method")
    renamed = status == 303 and attribute(exchange, "redirect_location") is not None  # urllib3 notes the method to come
    if isinstance(method, str) and method.upper() in _SAFE and not renamed:
        return False
    error = attribute(exchange, "error")
    if isinstance(error, BaseException):
        return settled_phase(error) not in UNSENT and not connecting(error)
    return isinstance(status, int) and status not in MOVED_NOTHING


# A no that comes from a gate: who asks, how large, which path. It says nothing of an earlier attempt that had passed the gate.
_GATES: Final = frozenset({401, 403, 404, 405, 406, 407, 411, 413, 414, 415, 421, 426, 431, 451})


def speaks_of_the_call(subject: object) -> bool:
    """True where a no is the provider's word on the call itself: not our own, and not a gate's."""
    return not reached_nobody(subject) and status_of(subject) not in _GATES


def reached_nobody(subject: object) -> bool:
    """True where an error is our own, or from before anything could be sent: the provider knows nothing of it."""
    return isinstance(subject, FinresilienceError) or (isinstance(subject, BaseException) and settled_phase(subject) in UNSENT)


def instead_of_cancellation(error: BaseException) -> bool:
    """True where the error was raised while a cancellation was on its way out of the same attempt: by what cleaned up.

    One that was under way before the attempt began is in the chain too; it was caught in no frame of this error's own. And a timeout
    further in turns its own cancellation into a `TimeoutError`: that one says what happened.
    """
    frames = {id(frame) for _, frame in _frames(error)}
    link, cause = error, error.__context__
    for _ in range(MAX_LINKS):
        if cause is None:
            return False
        if not _CANCELLATIONS.isdisjoint(class_names(cause)) and cause.__traceback__ is not None:
            return not isinstance(link, TimeoutError) and id(cause.__traceback__.tb_frame) in frames
        link, cause = cause, cause.__context__
    return False


def in_hand_before(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors that the same attempt was handling when it raised this one instead; what it was raised from is no such error."""
    frames = {id(frame) for _, frame in _frames(error)}
    causes = {id(link) for link in links(error)}
    earlier = error.__context__
    for _ in range(MAX_LINKS):
        if earlier is None:
            return
        if id(earlier) not in causes and earlier.__traceback__ is not None and id(earlier.__traceback__.tb_frame) in frames:
            yield earlier
        earlier = earlier.__context__


_CANCELLATIONS: Final = frozenset({"asyncio.exceptions.CancelledError", "trio.Cancelled"})
