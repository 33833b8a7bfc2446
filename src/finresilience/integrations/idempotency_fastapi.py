"""How does a FastAPI endpoint carry a request out once, with its key, its effect and its answer in one transaction?

A dependency, because it sees what other dependencies found: the tenant, and the session.

    router = APIRouter(route_class=IdempotentRoute)
    Once = Annotated[HttpClaim, Depends(idempotency(store, scope=tenant_of, within=get_session))]

    @router.post("/payments")
    async def pay(asked: PaymentRequest, session: Annotated[AsyncSession, Depends(get_session)], once: Once) -> Response:
        session.add(payment := Payment(...))
        answer = await once.complete({"id": payment.id}, status_code=201)
        await session.commit()
        return answer
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable  # noqa: TC003 - FastAPI looks the annotations of a dependency up
from typing import TYPE_CHECKING, Any, Final, Literal, final

from finresilience._checks import positive_count, refuse, seconds_of
from finresilience.context import current, idempotency_key
from finresilience.crash_points import crash_point
from finresilience.durable.records import Claimed
from finresilience.errors import ConfigurationError, MissingKeyError, RefusedError
from finresilience.integrations.asgi import _Request, _teller, owned_key
from finresilience.integrations.headers import HeaderError, incoming_key
from finresilience.integrations.idempotency_answers import KEPT_HEADERS, End, HttpAnswer, kept_headers
from finresilience.integrations.idempotency_asgi import announced_size, request_of
from finresilience.integrations.idempotency_claim import HttpClaim
from finresilience.integrations.idempotency_http import MAX_BODY, Fingerprint, fingerprint_of, key_space, request_fingerprint
from finresilience.integrations.idempotency_keys import CLAIMED, Hold, Keys, while_renewed
from finresilience.integrations.idempotency_replies import Replies
from finresilience.integrations.problems import BODY_TOO_LARGE

from fastapi import Depends, Request  # isort: skip - what is missing is said by the module above
from fastapi.params import Depends as DependsMarker  # isort: skip
from fastapi.responses import Response  # isort: skip
from fastapi.routing import APIRoute  # isort: skip

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable
    from datetime import timedelta

    from finresilience.classify.classifier import ErrorClassifier
    from finresilience.clock import Clock
    from finresilience.context import CallContext
    from finresilience.durable.idempotency import AsyncIdempotencyStore, IdempotencyStore
    from finresilience.durable.records import Claim
    from finresilience.integrations.asgi import Receive, Scope, Send
    from finresilience.integrations.problems import Problems

__all__ = ["HttpClaim", "IdempotentRoute", "idempotency"]

_PLACE: Final = "finresilience.idempotency"  # in the ASGI scope: where a route waits for the claim of its request


class IdempotentRoute(APIRoute):
    """A route whose endpoint may depend on `idempotency(...)`: it gives repeats their answer, and sees how the endpoint ended."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Leases are renewed from out here: inside, FastAPI leaves scopes open that ours would have to enclose."""
        place = scope[_PLACE] = _Place()

        async def work(renewed: Callable[[Hold], object]) -> None:
            place.renewed = renewed
            await super(IdempotentRoute, self).handle(scope, receive, send)

        await while_renewed(work)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler, which the place of the request looks at."""
        handler = super().get_route_handler()

        async def handling(request: Request) -> Response:
            place = request.scope.get(_PLACE)
            assert isinstance(place, _Place)  # noqa: S101 - as `handle` put it there
            with _Request():
                place.context = current.get()
                return await place.serve(handler, request)

        return handling


@final
class _Place:
    """Where a route and a dependency meet, for one request."""

    def __init__(self) -> None:
        self.context: CallContext | None = None
        self.renewed: Callable[[Hold], object] = _never
        self.guard: _Guard | None = None
        self.claim: HttpClaim | None = None

    async def serve(self, handler: Callable[[Request], Coroutine[Any, Any, Response]], request: Request) -> Response:
        try:
            response = await handler(request)
        except _InsteadError as instead:
            return instead.response
        except BaseException as error:
            if self.claim is not None and self.guard is not None:
                await self.claim._raised(error, self.guard.replies.problems, self.guard.classify)
            raise
        if self.claim is not None:
            await self.claim._returned(response)
        return response


def _never(hold: Hold) -> None:
    raise NotImplementedError


class _InsteadError(Exception):
    """The request is not carried out: this is its answer."""

    def __init__(self, answer: HttpAnswer) -> None:
        super().__init__(answer.status)
        self.response = Response(answer.body, answer.status, dict(answer.headers))


def idempotency(
    store: IdempotencyStore[Any] | AsyncIdempotencyStore[Any],
    *,
    scope: Any,
    within: Any = None,
    required: bool = True,
    operation: str | None = None,
    fingerprint: Fingerprint = request_fingerprint,
    max_body: int = MAX_BODY,
    keep_headers: Iterable[str] = KEPT_HEADERS,
    lease: float | timedelta = 60.0,
    renew_for: float | timedelta = 900.0,
    on_takeover: Literal["repeat"] | None = None,
    classify: ErrorClassifier | None = None,
    ask_again: float | timedelta = 5.0,
    store_timeout: float | timedelta = 5.0,
    problems: Problems | None = None,
    clock: Clock | None = None,
) -> Callable[..., AsyncGenerator[HttpClaim]]:
    """Return a dependency that claims the request for its owner and key, or answers in the endpoint's place.

    With `within`, the claim is made in the transaction of the endpoint: key, effect and answer are committed together or not at all, and
    nothing is left to find out. That is for effects in your own database. Without it, the claim is leased: for endpoints that call a
    provider; what the endpoint returns is stored, unless it finished the claim itself.

    The route must be an `IdempotentRoute`.

    Args:
        store: where keys are kept: any IdempotencyStore or AsyncIdempotencyStore.
        scope: a dependency that returns who the caller is, such as the tenant's id; it may raise an HTTPException.
        within: a dependency that returns the endpoint's transaction, as the store takes it: the very one that the endpoint depends on.
        required: whether a request without a key is refused by 400; if not, its claim has no key, and keeps nothing.
        operation: what the keys belong to, besides the owner: method and path of the route, by default.
        fingerprint: what makes two requests the same, besides method and path.
        max_body: how many bytes a request may have.
        keep_headers: which headers of an answer are replayed.
        lease: after how many seconds without a renewal a claim runs out.
        renew_for: for how many seconds it is renewed at most.
        on_takeover: what to do about a claim that ran out: None: answer 202; "repeat": run the endpoint, which looks at `takeovers`.
        classify: rules for errors that the endpoint raises: after one that is RETRYABLE, the key is free.
        ask_again: the seconds in `Retry-After` of a repeat that comes too early, at most.
        store_timeout: how long one question to the store may take, outside of your transaction.
        problems: how refusals, unknown outcomes and declines are told, such as what `install_handlers` returned.
        clock: what leases are measured by; the ruling clock by default.

    Raises:
        ConfigurationError: if an argument cannot work.
    """
    keys = Keys(store, lease=lease, renew_for=renew_for, store_timeout=store_timeout, clock=clock)
    replies = Replies(_teller(problems), keys.counts, ask_again=seconds_of("ask_again", ask_again))
    if not callable(fingerprint):
        refuse("fingerprint", fingerprint, "a function of the HttpRequest")
    if operation is not None and not isinstance(operation, str):
        refuse("operation", operation, "a str, such as 'POST /payments', or None for the route's own")
    if on_takeover not in {None, "repeat"}:
        refuse("on_takeover", on_takeover, '"repeat", or None')
    if classify is not None and not callable(getattr(classify, "error", None)):
        refuse("classify", classify, "an ErrorClassifier")
    guard = _Guard(keys, replies)
    guard.required, guard.operation, guard.fingerprint = bool(required), operation, fingerprint
    guard.max_body, guard.keep = positive_count("max_body", max_body), kept_headers(keep_headers)
    guard.repeats, guard.classify = on_takeover == "repeat", classify
    guard.in_transaction = within is not None
    caller_of, session_of = _dependency("scope", scope), _dependency("within", _no_session if within is None else within)

    async def claiming(request: Request, caller: Any = caller_of, session: Any = session_of) -> AsyncGenerator[HttpClaim]:
        claim = await guard.claim(request, caller, session)
        try:
            yield claim
        finally:
            claim._session_is_gone = True

    return claiming


def _no_session() -> None:
    return None


def _dependency(name: str, value: Any) -> Any:
    if isinstance(value, DependsMarker):
        return value
    if not callable(value):
        refuse(name, value, "a dependency: a function, or Depends(...)")
    return Depends(value)


@final
class _Guard:
    """What `idempotency(...)` was told."""

    required: bool
    operation: str | None
    fingerprint: Fingerprint
    max_body: int
    keep: frozenset[str]
    repeats: bool
    classify: ErrorClassifier | None
    in_transaction: bool

    def __init__(self, keys: Keys, replies: Replies) -> None:
        self.keys = keys
        self.replies = replies

    async def claim(self, request: Request, caller: Any, session: Any) -> HttpClaim:
        """Return the claim of this request, or raise the answer that is given instead."""
        place = request.scope.get(_PLACE)
        if not isinstance(place, _Place) or place.claim is not None:
            message = (
                "idempotency(...) needs an IdempotentRoute, once: APIRouter(route_class=IdempotentRoute), or app.router.route_class = ..."
            )
            raise ConfigurationError(message)
        if self.in_transaction and session is None:
            message = "within= gave None: give the dependency that the endpoint has its transaction from"
            raise ConfigurationError(message)
        try:
            claim = await self._claim(place, request, caller, session)
        except (HeaderError, MissingKeyError) as error:
            raise _InsteadError(self.replies.problem(error)) from error
        place.guard, place.claim = self, claim
        return claim

    async def _claim(self, place: _Place, request: Request, caller: Any, session: Any) -> HttpClaim:
        key = incoming_key(request.scope)
        if key is None:
            if self.required:
                raise MissingKeyError("the request needs an idempotency key")
            return HttpClaim(None, None, None, within=session, keep=self.keep)
        space = key_space(caller, _operation(request) if self.operation is None else self.operation)
        fingerprint = await self._fingerprint(request)
        claimed = await self._claimed(space, key, fingerprint, session)
        if not isinstance(claimed, Claimed):
            raise _InsteadError(self.replies.of(claimed))
        crash_point(CLAIMED)
        assert place.context is not None  # noqa: S101 - the route has made it
        hold = Hold(self.keys, place.context, claimed.token)
        if claimed.takeover and not self.repeats:
            where = {} if session is None else {"within": session}
            await self.keys.do(self.keys.deed(claimed.token, End.INDETERMINATE, reason="its claim ran out", **where))
            raise _InsteadError(self.replies.unknown())
        self.keys.counts["executed"] += 1
        idempotency_key(owned_key(space, key))._changed(place.context)
        if session is None:
            place.renewed(hold)
        return HttpClaim(key, claimed, hold, within=session, keep=self.keep)

    async def _claimed(self, space: str, key: str, fingerprint: str, session: Any) -> Claim:
        try:
            if session is None:
                return await self.keys.claim(space, key, fingerprint)
            found: Claim = await self.keys.do(self.keys.asking(space, key, fingerprint, within=session))
            return found
        except RefusedError as error:
            raise _InsteadError(self.replies.problem(error)) from error

    async def _fingerprint(self, request: Request) -> str:
        if announced_size(request.scope) > self.max_body:
            raise _InsteadError(self.replies.told(BODY_TOO_LARGE))
        try:
            body = await request.body()
        except RuntimeError as error:  # Starlette's word for a body that was read by somebody else
            message = "the endpoint reads a form, whose bytes are gone: guard it by IdempotencyMiddleware"
            raise ConfigurationError(message) from error
        if len(body) > self.max_body:
            raise _InsteadError(self.replies.told(BODY_TOO_LARGE))
        return fingerprint_of(request_of(request.scope, body), self.fingerprint)


def _operation(request: Request) -> str:
    """Return method and path of the route."""
    return f"{request.method} {getattr(request.scope.get('route'), 'path', '')}"
