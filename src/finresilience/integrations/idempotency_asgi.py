"""How is a request that comes twice carried out once? A middleware for any ASGI framework; it imports none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, final

from finresilience._checks import positive_count, refuse, seconds_of
from finresilience.context import current, idempotency_key
from finresilience.crash_points import crash_point
from finresilience.durable.records import Claimed
from finresilience.errors import ConfigurationError, MissingKeyError, RefusedError
from finresilience.integrations.asgi import Message, Receive, Scope, Send, _names, _teller, owned_key
from finresilience.integrations.headers import HeaderError, incoming_key
from finresilience.integrations.idempotency_answers import KEPT_HEADERS, Answered, End, HttpAnswer, end_of, kept_headers
from finresilience.integrations.idempotency_exchange import Exchange, give
from finresilience.integrations.idempotency_http import MAX_BODY, Fingerprint, HttpRequest, fingerprint_of, key_space, request_fingerprint
from finresilience.integrations.idempotency_keys import CLAIMED, Hold, Keys, while_renewed
from finresilience.integrations.idempotency_replies import Replies
from finresilience.integrations.problems import BODY_TOO_LARGE, CALLER_UNKNOWN
from finresilience.outcome import Found, NotFound, StillUnknown

if TYPE_CHECKING:
    from datetime import timedelta

    from finresilience.classify.classifier import ErrorClassifier
    from finresilience.clock import Clock
    from finresilience.durable.idempotency import AsyncIdempotencyStore, IdempotencyStore
    from finresilience.integrations.asgi import App
    from finresilience.integrations.problems import Problems

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_SHORTCUTS: Final = frozenset({"http.response.pathsend", "http.response.zerocopysend", "http.response.trailers"})


@final
@dataclass(frozen=True, slots=True)
class TakenOver:
    """A request whose claim ran out before its end was noted: it may have been carried out, or half.

    Args:
        request: the request, the same as the first one's.
        key: under which guarded calls inside of it run: ask the provider by what it derives from this.
        claimed: how often it was begun before, and how far it came.
    """

    request: HttpRequest
    key: str = field(repr=False)
    claimed: Claimed


OnTakeover: TypeAlias = Callable[[TakenOver], Awaitable[Found[HttpAnswer] | NotFound | StillUnknown]] | Literal["repeat"] | None


@final
class IdempotencyMiddleware:
    """Carry each request out once for its owner and key, and give every repeat the answer of the first.

    The request runs under a key that is its owner's alone, as by `IdempotencyKeyMiddleware`, which it replaces; its answer is stored before
    it is sent. What nobody knows the end of is answered by 202, and neither run again nor called an error.

    Args:
        app: the application inside.
        store: where keys are kept: any IdempotencyStore or AsyncIdempotencyStore.
        scope: from the ASGI scope to who the caller is, such as `lambda scope: scope["user"].merchant_id`: never what the caller may choose
            freely. None: nobody; the request is refused by 403.
        methods: which methods are guarded.
        applies: from the ASGI scope to whether the request is guarded, for those of some paths only.
        required: whether a guarded request without a key is refused by 400; if not, it runs unguarded.
        operation: from the ASGI scope to the name of the operation, such as "POST /payments": each has keys of its own. By default, all
            operations of an owner share their keys, so that a key that comes for another one is refused.
        fingerprint: what makes two requests the same, besides method and path: each byte of the body by default; see `json_fingerprint`.
        max_body: how many bytes a request may have: it is held in memory.
        max_response: how many bytes of an answer are held and stored: what the store takes, by default. What is longer, and what is
            streamed as `text/event-stream`, is sent as it comes; a repeat hears that it was done, and that the answer was not kept.
        keep_headers: which headers of an answer are replayed.
        lease: after how many seconds without a renewal a claim runs out. It is renewed while the application works.
        renew_for: for how many seconds it is renewed at most: an application that hangs must not hold a key for ever.
        on_takeover: what to do about a claim that ran out: None: answer 202, and leave it to whoever resolves what is unsettled; "repeat":
            run it again, where all that moves money inside takes its key from the context; or an async function of the `TakenOver` that
            finds out, and returns `Found(HttpAnswer(...))`, `NotFound()` or `StillUnknown()`.
        ends: from what was answered to how the work ended.
        classify: rules for errors that the application raises: after one that is RETRYABLE, and so not applied, the key is free.
        wait: for how many seconds a repeat waits for the first, before it is told to come again.
        ask_again: the seconds in `Retry-After` of a repeat that comes too early, at most.
        store_timeout: how long one question to the store may take.
        problems: how its refusals, unknown outcomes and declines are told.
        clock: what leases and waits are measured by; the ruling clock by default.

    Raises:
        ConfigurationError: if an argument cannot work; and, for a request, if `scope` or `operation` gives something else.
    """

    def __init__(
        self,
        app: App,
        store: IdempotencyStore[Any] | AsyncIdempotencyStore[Any],
        *,
        scope: Callable[[Scope], str | None],
        methods: str | Iterable[str] = ("POST", "PATCH"),
        applies: Callable[[Scope], bool] | None = None,
        required: bool = True,
        operation: Callable[[Scope], str] | None = None,
        fingerprint: Fingerprint = request_fingerprint,
        max_body: int = MAX_BODY,
        max_response: int | None = None,
        keep_headers: Iterable[str] = KEPT_HEADERS,
        lease: float | timedelta = 60.0,
        renew_for: float | timedelta = 900.0,
        on_takeover: OnTakeover = None,
        ends: Callable[[Answered], End] = end_of,
        classify: ErrorClassifier | None = None,
        wait: float | timedelta = 0.0,
        ask_again: float | timedelta = 5.0,
        store_timeout: float | timedelta = 5.0,
        problems: Problems | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._app = app
        self._keys = Keys(store, lease=lease, renew_for=renew_for, store_timeout=store_timeout, clock=clock)
        self._owner = _function("scope", scope, "a function of the ASGI scope that says who the caller is")
        self._methods = _guarded(methods)
        self._applies = None if applies is None else _function("applies", applies, "a function of the ASGI scope")
        self._required = bool(required)
        self._operation = None if operation is None else _function("operation", operation, "a function of the ASGI scope")
        self._fingerprint = _function("fingerprint", fingerprint, "a function of the HttpRequest")
        self._max_body = positive_count("max_body", max_body)
        self._max_response = positive_count("max_response", self._keys.store.max_response if max_response is None else max_response)
        self._keep = kept_headers(keep_headers)
        if on_takeover is not None and on_takeover != "repeat":
            _function("on_takeover", on_takeover, '"repeat", an async function of the TakenOver, or None')
        self._repeats = on_takeover == "repeat"
        self._recover = _cannot_tell if on_takeover is None or on_takeover == "repeat" else on_takeover
        self._ends = _function("ends", ends, "a function of what was Answered")
        if classify is not None and not callable(getattr(classify, "error", None)):
            refuse("classify", classify, "an ErrorClassifier")
        self._classify = classify
        self._wait = seconds_of("wait", wait, zero=True)
        self._ask_again = seconds_of("ask_again", ask_again)
        self._replies = Replies(_teller(problems), self._keys.counts, ask_again=self._ask_again)

    def statistics(self) -> dict[str, int]:
        """Return how often what happened: `executed`, `replayed`, `in_use`, ..., each end, and `failures` of the store."""
        return dict(self._keys.counts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or not self._guards(scope):
            await self._app(scope, receive, send)
            return
        try:
            found = await self._read(scope, receive)
            if isinstance(found, _Asked):
                await self._serve(found, _without_shortcuts(scope), receive, send)
                return
        except (HeaderError, MissingKeyError, _NotBegunError) as error:
            found = self._replies.problem(error.refusal if isinstance(error, _NotBegunError) else error)
        if isinstance(found, HttpAnswer):
            await give(send, found)
        elif found is _UNGUARDED:
            await self._app(scope, receive, send)

    def _guards(self, scope: Scope) -> bool:
        return scope["method"].upper() in self._methods and (self._applies is None or bool(self._applies(scope)))

    async def _read(self, scope: Scope, receive: Receive) -> _Asked | HttpAnswer | object:
        """Return the request, once all of it has come and nothing is wrong with it."""
        key = incoming_key(scope)
        if key is None:
            if self._required:
                raise MissingKeyError("the request needs an idempotency key")
            return _UNGUARDED
        owner = self._owner(scope)
        if owner is None:
            return self._replies.told(CALLER_UNKNOWN)
        space = key_space(owner, "" if self._operation is None else self._operation(scope))
        if announced_size(scope) > self._max_body:
            return self._replies.told(BODY_TOO_LARGE)
        body = await _whole_body(receive, self._max_body)
        if body is None:
            return _GONE
        if len(body) > self._max_body:
            return self._replies.told(BODY_TOO_LARGE)
        request = request_of(scope, body)
        return _Asked(space, key, request, fingerprint_of(request, self._fingerprint))

    async def _serve(self, asked: _Asked, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            claim = await self._keys.claim_in_time(asked.space, asked.key, asked.fingerprint, wait=self._wait, step=self._ask_again)
        except RefusedError as error:
            raise _NotBegunError(error) from error
        if not isinstance(claim, Claimed):
            await give(send, self._replies.of(claim))
            return
        crash_point(CLAIMED)
        with idempotency_key(owned_key(asked.space, asked.key)):
            context = current.get()
            assert context is not None  # noqa: S101 - the block has just made it
            exchange = Exchange(self._keys, self._replies, send, ends=self._ends, classify=self._classify, keep=self._keep)
            exchange.max_response = self._max_response
            work = exchange.work(self._app, scope, _told_again(asked.request.body, receive), before=self._before(asked, claim))
            hold = Hold(self._keys, context, claim.token)
            await while_renewed(lambda renewed: _held(renewed, hold, work))

    def _before(self, asked: _Asked, claim: Claimed) -> Callable[[], Awaitable[object]] | None:
        """Return what must be asked before the work is begun: whether it was done by somebody whose claim ran out."""
        if not claim.takeover or self._repeats:
            return None
        return lambda: self._recover(TakenOver(asked.request, owned_key(asked.space, asked.key), claim))


async def _held(renewed: Callable[[Hold], object], hold: Hold, work: Callable[[Hold], Awaitable[None]]) -> None:
    renewed(hold)
    await work(hold)


class _NotBegunError(Exception):
    """The store refused the claim: nothing of the application has run. An error of the application's must not be taken for it."""

    def __init__(self, refusal: RefusedError) -> None:
        super().__init__(refusal)
        self.refusal = refusal


@final
@dataclass(frozen=True, slots=True)
class _Asked:
    space: str = field(repr=False)
    key: str = field(repr=False)
    request: HttpRequest
    fingerprint: str = field(repr=False)


_UNGUARDED: Final = object()
_GONE: Final = object()  # the caller has hung up before the request was whole


async def _cannot_tell(taken_over: TakenOver) -> StillUnknown:  # noqa: ARG001 - whoever it is
    return StillUnknown()


def request_of(scope: Scope, body: bytes) -> HttpRequest:
    """Return the request of an ASGI scope, with its whole body."""
    content_type = next((bytes(value) for name, value in scope["headers"] if bytes(name).lower() == b"content-type"), b"")
    query = bytes(scope.get("query_string") or b"")
    return HttpRequest(scope["method"].upper(), scope["path"], query, content_type.decode("latin-1"), body)


def announced_size(scope: Scope) -> int:
    """Return the size that the request gives itself; 0 where it says none, or nonsense, which its server will not pass on."""
    for name, value in scope["headers"]:
        if bytes(name).lower() == b"content-length":
            text = bytes(value).strip()
            return int(text) if text.isdigit() and len(text) < 19 else 0
    return 0


async def _whole_body(receive: Receive, most: int) -> bytes | None:
    """Return the body, or what came until it was more than `most`; None if the caller hung up."""
    parts, size = list[bytes](), 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        part = message.get("body", b"")
        parts.append(part)
        size += len(part)
        if size > most or not message.get("more_body", False):
            return b"".join(parts)


def _told_again(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that begins with the whole body, and then waits for the caller to hang up."""
    first = True

    async def receiving() -> Message:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return receiving


def _without_shortcuts(scope: Scope) -> Scope:
    """Return a scope without the ways to send a body that go past us; the scope itself if there are none, for others read it later."""
    extensions = scope.get("extensions") or {}
    if not _SHORTCUTS & set(extensions):
        return scope
    return {**scope, "extensions": {name: value for name, value in extensions.items() if name not in _SHORTCUTS}}


def _guarded(methods: str | Iterable[str]) -> frozenset[str]:
    found = frozenset(method.upper() for method in _names("methods", methods))
    if found & SAFE_METHODS:
        message = f"methods= names {', '.join(sorted(found & SAFE_METHODS))}: they move nothing, and need no key; leave them out"
        raise ConfigurationError(message)
    return found


def _function(name: str, value: Any, wanted: str) -> Any:
    if not callable(value):
        refuse(name, value, wanted)
    return value
