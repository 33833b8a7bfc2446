"""What does an endpoint hold that must carry its request out once? A claim that it finishes, in its own transaction or ours."""

from __future__ import annotations

import json
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, final

from finresilience.crash_points import crash_point
from finresilience.errors import ConfigurationError, UnknownOutcomeError
from finresilience.integrations.idempotency_answers import Answered, End, HttpAnswer, end_of
from finresilience.integrations.idempotency_keys import ANSWERED, Hold, end_of_error, is_parting
from finresilience.integrations.idempotency_replies import as_answer

try:
    from fastapi import HTTPException
    from fastapi.encoders import jsonable_encoder
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse, Response
except ModuleNotFoundError as _missing:
    _how = "finresilience.integrations.idempotency_fastapi needs FastAPI: pip install 'finresilience[fastapi]'"
    raise ModuleNotFoundError(_how, name=_missing.name) from _missing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from finresilience.classify.classifier import ErrorClassifier
    from finresilience.durable.records import Claimed
    from finresilience.integrations.problems import Problems

_UNFINISHED = (
    "the endpoint returned without finishing its claim, which is in its own transaction: `await once.complete(...)`, `fail(...)` or "
    "`release()` before you commit, or repeats will hear that nobody knows how it ended"
)


@final
class HttpClaim:
    """The right to carry out this request, once. Finish it before you commit: with a transaction of yours, all is true or nothing is.

    Attributes:
        key: the caller's own key; None where none came and none is required: then nothing is kept.
        takeovers: how many claims before this one did not end well; more than 0 only with `on_takeover="repeat"`.
        recovery_point: how far one of them came, or None.
        data: what was noted with it.
    """

    def __init__(self, key: str | None, claimed: Claimed | None, hold: Hold | None, *, within: Any, keep: frozenset[str]) -> None:
        self.key: str | None = key
        self.takeovers: int = 0 if claimed is None else claimed.takeovers
        self.recovery_point: str | None = None if claimed is None else claimed.recovery_point
        self.data: bytes = b"" if claimed is None else claimed.data
        self._hold = hold
        self._within = within
        self._keep = keep
        self._finished = hold is None
        self._session_is_gone = False

    # ------------------------------------------------------------ for endpoints

    async def complete(self, content: Any = None, *, status_code: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        """Finish, and return the response for the endpoint to return: every repeat gets the same.

        Args:
            content: whatever FastAPI makes JSON of, or a Response of your own.
            status_code: its status.
            headers: its headers; those that are kept are replayed.

        Raises:
            ConfigurationError: if the claim is finished already, or the response is a stream.
            StaleTokenError: in your transaction: if somebody else has taken over. Roll back.
        """
        return await self._finish(End.COMPLETE, _response(content, status_code, headers))

    async def fail(self, content: Any = None, *, status_code: int = 402, headers: Mapping[str, str] | None = None) -> Response:
        """Finish with a no that stays one, such as a decline. As for `complete`."""
        return await self._finish(End.FAIL, _response(content, status_code, headers))

    async def release(self) -> None:
        """Give the key back, because surely nothing happened."""
        await self._tell(End.RELEASE, None)

    async def advance(self, recovery_point: str, *, data: bytes = b"") -> None:
        """Note how far the work is, for whoever takes over."""
        hold = self._hold
        if hold is None:
            return
        if hold.token is None:
            message = "this claim is finished already: there is nobody to note it for"
            raise ConfigurationError(message)
        await hold.keys.do(partial(hold.keys.store.advance, hold.token, recovery_point, data=data, **self._where()))

    def complete_sync(self, content: Any = None, *, status_code: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        """`complete` for a plain endpoint, with a sync store."""
        return self._finish_sync(End.COMPLETE, _response(content, status_code, headers))

    def fail_sync(self, content: Any = None, *, status_code: int = 402, headers: Mapping[str, str] | None = None) -> Response:
        """`fail` for a plain endpoint, with a sync store."""
        return self._finish_sync(End.FAIL, _response(content, status_code, headers))

    # ------------------------------------------------------------ how it is told

    async def _finish(self, end: End, response: Response) -> Response:
        await self._tell(end, self._answer(response))
        return response

    async def _tell(self, end: End, answer: HttpAnswer | None) -> None:
        hold = self._hold
        if hold is None:
            return
        self._must_be_open()
        if self._within is None:  # its effect may be at a provider: what is in hand is given, also if it cannot be stored
            await hold.settle(end, answer)
        else:
            await hold.keys.do(self._deed(hold, end, answer))

    def _finish_sync(self, end: End, response: Response) -> Response:
        hold, answer = self._hold, self._answer(response)
        if hold is None:
            return response
        if hold.keys.is_async:
            message = "a plain endpoint needs a sync store: give idempotency(...) one, or make the endpoint `async def`"
            raise ConfigurationError(message)
        self._must_be_open()
        call = self._deed(hold, end, answer)
        try:
            call()
        except Exception as error:
            if self._within is not None:
                raise
            hold.keys.failed(end, error)
        return response

    def _must_be_open(self) -> None:
        if self._finished:
            message = "this claim is finished already: finish it once, as the last thing before you commit"
            raise ConfigurationError(message)
        self._finished = True

    def _deed(self, hold: Hold, end: End, answer: HttpAnswer | None) -> Callable[[], Any]:
        """Return the call of the store that finishes the claim, where the endpoint has its transaction."""
        token = hold.end()
        assert token is not None  # noqa: S101 - it is there until it is finished
        crash_point(ANSWERED)
        hold.keys.counts[end] += 1
        return hold.keys.deed(token, end, answer, **self._where())

    def _where(self) -> dict[str, Any]:
        return {} if self._within is None or self._session_is_gone else {"within": self._within}

    def _answer(self, response: Response) -> HttpAnswer:
        body = getattr(response, "body", None)
        if not isinstance(body, bytes | memoryview):
            message = "a stream cannot be kept: give complete() the content, or release the claim and serve the stream elsewhere"
            raise ConfigurationError(message)
        return self._kept(response, bytes(body), kept=True)

    def _kept(self, response: Response, body: bytes, *, kept: bool) -> HttpAnswer:
        pairs = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.raw_headers]
        return HttpAnswer(response.status_code, tuple(pair for pair in pairs if pair[0] in self._keep), body, kept)

    # ------------------------------------------------------------ for the route

    async def _returned(self, response: Response) -> None:
        """The endpoint returned. What it returned finishes a leased claim; one in its transaction it must have finished itself."""
        if self._finished or self._hold is None:
            return
        self._finished = True
        if self._within is not None:
            if self._session_is_gone:  # committed or not: its row, if there is one, says what is true
                await self._hold.settle(End.INDETERMINATE, reason="the endpoint did not finish its claim")
            raise ConfigurationError(_UNFINISHED)
        body = getattr(response, "body", None)
        kept = isinstance(body, bytes | memoryview)
        answer = self._kept(response, bytes(body) if isinstance(body, bytes | memoryview) else b"", kept=kept)
        headers = {name.lower(): value for name, value in response.headers.items()}
        end = end_of(Answered(answer.status, headers, answer.body, sent=self._hold.context.sent))
        await self._hold.settle(end, answer, reason=f"answered with {answer.status}")

    async def _raised(self, error: BaseException, problems: Problems, classify: ErrorClassifier | None) -> None:
        """The request ended by an error: before the endpoint was begun, or in it."""
        if self._finished or self._hold is None or not (isinstance(error, Exception) or is_parting(error)):
            return
        self._finished = True
        if isinstance(error, RequestValidationError):
            await self._unread()
        elif self._within is None:
            end, answer = self._end_of(error, problems, classify)
            await self._hold.settle(end, answer, reason=f"{type(error).__name__} was raised")
        elif isinstance(error, UnknownOutcomeError) or self._hold.context.moved:
            log = logging.getLogger("finresilience")
            log.error("%s inside of a claim in the caller's transaction: its row is rolled back, and a repeat runs", type(error).__name__)

    async def _unread(self) -> None:
        """Nothing was begun. Where its transaction is still open, the claim is given back in it, and is gone with it in any case."""
        hold = self._hold
        if hold is None or self._within is None or self._session_is_gone:
            if hold is not None:
                await hold.settle(End.RELEASE)
            return
        await hold.keys.do(self._deed(hold, End.RELEASE, None))

    def _end_of(self, error: BaseException, problems: Problems, classify: ErrorClassifier | None) -> tuple[End, HttpAnswer | None]:
        assert self._hold is not None  # noqa: S101 - asked before
        context = self._hold.context
        if isinstance(error, HTTPException):
            answer = HttpAnswer(error.status_code, _JSON, json.dumps({"detail": jsonable_encoder(error.detail)}).encode())
            told = {name.lower(): value for name, value in (error.headers or {}).items()}
            return end_of(Answered(error.status_code, told, answer.body, sent=context.sent)), answer
        found = problems.of(error, sent=context.sent) if isinstance(error, Exception) else None
        end = end_of_error(error, context, classify, told=found is not None)
        return end, None if found is None else as_answer(found)


_JSON = (("content-type", "application/json"),)


def _response(content: Any, status_code: int, headers: Mapping[str, str] | None) -> Response:
    if isinstance(content, Response):
        return content
    if status_code in {204, 205, 304}:
        return Response(status_code=status_code, headers=dict(headers or {}))
    return JSONResponse(jsonable_encoder(content), status_code, dict(headers or {}))
