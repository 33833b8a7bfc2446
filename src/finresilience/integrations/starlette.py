"""How does a Starlette application answer for what its guarded calls raise? By one call at set-up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from finresilience.errors import ExpiredError, MissingKeyError, RefusedError, UnknownOutcomeError
from finresilience.integrations.asgi import DeadlineMiddleware, IdempotencyKeyMiddleware, ProblemMiddleware, told
from finresilience.integrations.headers import HeaderError
from finresilience.integrations.problems import Problem, ProblemOptions, Problems

try:
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import Response
except ModuleNotFoundError as _missing:
    _how = "finresilience.integrations.starlette needs Starlette: pip install 'finresilience[starlette]'"
    raise ModuleNotFoundError(_how, name=_missing.name) from _missing

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.websockets import WebSocket

    from finresilience.outcome import Outcome

__all__ = ["DeadlineMiddleware", "IdempotencyKeyMiddleware", "ProblemMiddleware", "Problems", "install_handlers", "problem_response"]

_OURS = (UnknownOutcomeError, RefusedError, ExpiredError, MissingKeyError, HeaderError)


def install_handlers(app: Starlette, **options: Unpack[ProblemOptions]) -> Problems:
    """Let `app` answer for errors of this library, and for declines, by problem details (RFC 9457); return what tells them.

    Handlers of your own, for one of these classes, stay as they are.

    Args:
        app: the application, before its first request.
        options: see `Problems`.

    Raises:
        ConfigurationError: if an option cannot work.
        RuntimeError: if the application has begun to serve.
    """
    problems = Problems(**options)
    if app.middleware_stack is not None:
        message = "the application serves already: install the handlers before its first request"
        raise RuntimeError(message)

    async def handle(connection: Request | WebSocket, error: Exception) -> Response:
        found = told(problems, error) if isinstance(connection, Request) else None  # a websocket has no status to give
        if found is None:
            raise error
        return _response(found)

    for kind in (*_OURS, *problems.declined):
        if kind not in app.exception_handlers:
            app.add_exception_handler(kind, handle)
    # Innermost: it notes for the handlers what was sent, and asks `classify` about errors that have no class of their own here.
    app.user_middleware.append(Middleware(ProblemMiddleware, **options))
    return problems


def problem_response(end: Exception | Outcome[Any], problems: Problems | None = None) -> Response | None:
    """Return the answer for an error or an outcome, for an endpoint that has it in hand; None where there is no problem to tell.

    Args:
        end: the error, or what `outcome` and `aoutcome` return.
        problems: how to tell it, such as what `install_handlers` returned.
    """
    found = told(problems or Problems(), end)
    return None if found is None else _response(found)


def _response(found: Problem) -> Response:
    import json

    return Response(json.dumps(found.body), found.status, found.headers)
