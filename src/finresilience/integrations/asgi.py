"""What does an ASGI service take over from its caller, and what does it tell it of errors? For any framework; it imports none.

Three middlewares, each for one question, each for `http` alone: how long may this take (`DeadlineMiddleware`, outermost), whose
payment is this (`IdempotencyKeyMiddleware`, inside of what authenticates), what became of it (`ProblemMiddleware`, innermost).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Any, Final, TypeAlias, Unpack, final

from finresilience._checks import positive_count, refuse, seconds_of
from finresilience.context import _Scope, attempt_budget, current, deadline, idempotency_key
from finresilience.errors import ConfigurationError, DeadlineExceededError, MissingKeyError
from finresilience.integrations.headers import TIMEOUT, HeaderError, incoming_attempts, incoming_key, incoming_timeout
from finresilience.integrations.problems import Problem, ProblemOptions, Problems, log_problem

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager
    from datetime import timedelta

    from finresilience.context import CallContext
    from finresilience.outcome import Outcome

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_BODIES: Final = frozenset({"http.response.body", "http.response.pathsend", "http.response.zerocopysend"})


@final
class DeadlineMiddleware:
    """Give each request the time its caller still has, and never more than `at_most`: `remaining()` tells it to all inside.

    It stops nothing by itself: guarded calls inside refuse to begin, or give up, when it passes. Once the answer has gone,
    nobody waits any more, and what still runs for the request, such as a background task, has no deadline from here.

    Args:
        app: the application inside.
        at_most: the seconds of a request whose caller says nothing, or asks for more.
        at_least: a request with less time than this is refused before anything is done: a payment that is cut off in the middle
            is an unknown outcome, which costs more than a refusal.
        header: where the caller says how many milliseconds it has left; several of them, and the least holds. In `grpc-timeout`
            gRPC's own form is read. A time of day is not: clocks differ.
        retries: how many retries all guarded calls inside may spend together for one request, less one for each attempt that
            its caller made before (`Previous-Attempts`), so that retries do not multiply from service to service.
        problems: how its refusals are told.

    Raises:
        ConfigurationError: if an argument cannot work.
    """

    __slots__ = ("_app", "_at_least", "_at_most", "_headers", "_problems", "_retries")

    def __init__(
        self,
        app: App,
        *,
        at_most: float | timedelta,
        at_least: float | timedelta = 0.0,
        header: str | Iterable[str] = TIMEOUT,
        retries: int | None = None,
        problems: Problems | None = None,
    ) -> None:
        self._app = app
        self._at_most = seconds_of("at_most", at_most)
        self._at_least = seconds_of("at_least", at_least, zero=True)
        if self._at_least > self._at_most:
            message = f"at_least={at_least} is more than at_most={at_most}: every request would be refused"
            raise ConfigurationError(message)
        self._headers = _names("header", header)
        self._retries = None if retries is None else positive_count("retries", retries, least=0)
        self._problems = _teller(problems)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            seconds, budget = self._granted(scope), self._budget(scope)
        except (HeaderError, DeadlineExceededError) as error:
            await answer(send, self._problems.of(error))
            return
        await _served(self._app, scope, receive, send, budget, deadline(seconds))

    def _granted(self, scope: Scope) -> float:
        asked = [seconds for header in self._headers if (seconds := incoming_timeout(scope, header)) is not None]
        seconds = min([self._at_most, *asked])
        if seconds <= 0.0 or seconds < self._at_least:
            raise DeadlineExceededError("the request", self._at_least - seconds)
        return seconds

    def _budget(self, scope: Scope) -> AbstractContextManager[None]:
        if self._retries is None:
            return nullcontext()
        return attempt_budget(max(0, self._retries - incoming_attempts(scope)))


async def _served(app: App, scope: Scope, receive: Receive, send: Send, *blocks: AbstractContextManager[None]) -> None:
    """Serve a request inside of these blocks."""
    outer = current.get()
    with ExitStack() as stack:
        for block in blocks:
            stack.enter_context(block)
        await app(scope, receive, _lifting(send, current.get(), outer))


def _lifting(send: Send, context: CallContext | None, outer: CallContext | None) -> Send:
    """Return a `send` that ends the deadline of the request with the last byte of its answer, wherever it is called from.

    Each middleware does so for the context that it made: what they hold is a copy, and the innermost is the one that is read.
    """

    async def sending(message: Message) -> None:
        await send(message)
        if message["type"] in _BODIES and not message.get("more_body", False) and context is not None:
            context.deadline = None if outer is None else outer.deadline

    return sending


@final
class IdempotencyKeyMiddleware:
    """Run each request under its caller's idempotency key, so that the calls inside derive theirs from it.

    Two callers may use the same key for two payments. So the key inside is made of the caller's key and of a digest of who the
    caller is; the caller's own key is what `incoming_key(scope)` returns. Put it inside of what authenticates.

    Args:
        app: the application inside.
        owner: from the ASGI scope to who the caller is, such as `lambda scope: scope["user"].merchant_id`: never what the caller
            may choose freely. None: nobody; the request goes on without a key.
        required_for: the methods that are refused without a key, such as `("POST", "PATCH")`.
        problems: how its refusals are told.

    Raises:
        ConfigurationError: if an argument cannot work; and, for a request, if `owner` gives something else.
    """

    __slots__ = ("_app", "_owner", "_problems", "_required_for")

    def __init__(
        self,
        app: App,
        *,
        owner: Callable[[Scope], str | None],
        required_for: str | Iterable[str] = (),
        problems: Problems | None = None,
    ) -> None:
        self._app = app
        if not callable(owner):
            refuse("owner", owner, "a function of the ASGI scope that says who the caller is")
        self._owner = owner
        self._required_for = frozenset(method.upper() for method in _names("required_for", required_for, none=True))
        self._problems = _teller(problems)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        owner = self._owner(scope) if scope["type"] == "http" else None
        if owner is None:
            await self._app(scope, receive, send)
            return
        try:
            key = incoming_key(scope)
            if key is None and scope["method"].upper() in self._required_for:
                raise MissingKeyError("the request needs an idempotency key")
        except (HeaderError, MissingKeyError) as error:
            await answer(send, self._problems.of(error))
            return
        await _served(self._app, scope, receive, send, nullcontext() if key is None else idempotency_key(owned_key(owner, key)))


def owned_key(owner: str, key: str) -> str:
    """Return the key that is this caller's alone: readable, so that support finds it, and without the caller's name in it.

    Args:
        owner: who the caller is.
        key: the caller's own key.

    Raises:
        ConfigurationError: if the owner is no text, or empty: all callers would share their keys.

    >>> owned_key("merchant_1", "pay_1")
    'pay_1.24492c8500aeda60ef07a717b25e0b3a'
    """
    if not isinstance(owner, str) or not owner.strip():
        refuse("owner", owner, "who the caller is, as a str, or None for nobody")
    from hashlib import sha256

    return f"{key}.{sha256(owner.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


@final
class ProblemMiddleware:
    """Answer for errors of this library, and for declines, by problem details (RFC 9457); all others pass through.

    Args:
        app: the application inside.
        options: see `Problems`.

    Raises:
        ConfigurationError: if an option cannot work.
    """

    __slots__ = ("_app", "_problems")

    def __init__(self, app: App, **options: Unpack[ProblemOptions]) -> None:
        self._app = app
        self._problems = Problems(**options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        outer = current.get()
        with _Request():
            try:
                await self._app(scope, receive, _lifting(noting, current.get(), outer))
            except Exception as error:
                found = None if started else told(self._problems, error)
                if found is None:
                    raise
                await answer(send, found)


class _Request(_Scope):
    """One request: it is noted here if a guarded call inside, other than a READ, may have been sent."""

    __slots__ = ()


def told(problems: Problems, end: Exception | Outcome[Any]) -> Problem | None:
    """Return the answer for an error or an outcome of the request that is running, or None; what a person should know is logged."""
    context = current.get()
    found = problems.of(end, sent=context is not None and context.sent)
    if found is not None:
        log_problem(end, found)
    return found


async def answer(send: Send, problem: Problem | None) -> None:
    """Send a problem as the whole answer."""
    assert problem is not None  # noqa: S101 - our own errors all have one
    import json

    body = json.dumps(problem.body).encode("ascii")
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in problem.headers.items()]
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _teller(problems: Problems | None) -> Problems:
    if problems is not None and not isinstance(problems, Problems):
        refuse("problems", problems, "Problems(...), or nothing")
    return problems if problems is not None else Problems()


def _names(argument: str, names: str | Iterable[str], *, none: bool = False) -> tuple[str, ...]:
    """Return names of headers or methods: tokens in ASCII, as HTTP has them."""
    usable = hasattr(names, "__iter__")
    several = (names,) if isinstance(names, str) else tuple(names) if usable else ()
    if not usable or not all(map(_is_token, several)) or not (several or none):
        refuse(argument, names, "a name as HTTP has them, or several")
    return several


def _is_token(name: object) -> bool:
    return isinstance(name, str) and name.isascii() and name.isprintable() and bool(name) and not _NOT_IN_A_TOKEN & set(name)


_NOT_IN_A_TOKEN: Final = frozenset('"(),/:;<=>?@[\\]{} ')
