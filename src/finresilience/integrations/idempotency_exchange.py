"""What becomes of one answer on its way out: held, judged, stored, and then sent. Internal to the ASGI middleware."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from finresilience.integrations.asgi import Message, Receive, Scope, Send, told as told_of
from finresilience.integrations.idempotency_answers import Answered, End, HttpAnswer
from finresilience.integrations.idempotency_keys import end_of_error, is_parting
from finresilience.integrations.idempotency_replies import Replies, as_answer, replay_of
from finresilience.outcome import Found, NotFound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finresilience.classify.classifier import ErrorClassifier
    from finresilience.integrations.asgi import App
    from finresilience.integrations.idempotency_keys import Hold, Keys


@final
class Exchange:
    """One claimed request: the application works, and its answer is stored before the caller hears it. Internal."""

    def __init__(
        self,
        keys: Keys,
        replies: Replies,
        send: Send,
        *,
        ends: Callable[[Answered], End],
        classify: ErrorClassifier | None,
        keep: frozenset[str],
    ) -> None:
        self._keys = keys
        self._replies = replies
        self._send = send
        self._ends = ends
        self._classify = classify
        self._keep = keep
        self.max_response = 0
        self._start: Message | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._passing = False  # the answer is too long to be held, and goes out as it comes

    def work(
        self, app: App, scope: Scope, receive: Receive, *, before: Callable[[], Awaitable[object]] | None
    ) -> Callable[[Hold], Awaitable[None]]:
        """Return the work that is to be done while the claim is held."""

        async def working(hold: Hold) -> None:
            from anyio.lowlevel import checkpoint

            try:
                await checkpoint()  # who was cancelled while the key was claimed has begun nothing
            except BaseException as error:
                if is_parting(error):
                    await hold.settle(End.RELEASE)
                raise
            if before is not None and not await self._may_begin(hold, before):
                return
            self._keys.counts["executed"] += 1
            await self._run(hold, app, scope, receive)

        return working

    async def _may_begin(self, hold: Hold, ask: Callable[[], Awaitable[object]]) -> bool:
        """Return whether whoever had the key before surely did nothing; if not, the caller has been answered."""
        try:
            known = await ask()
        except BaseException as error:
            if isinstance(error, Exception) or is_parting(error):
                await hold.settle(End.RELEASE)  # the key stays taken: the next one asks again
            if not isinstance(error, Exception):
                raise
            self._keys.failed("on_takeover", error)
            known = None
        if isinstance(known, NotFound):
            return True
        if isinstance(known, Found) and isinstance(known.value, HttpAnswer):
            answer = known.value
            await hold.settle(self._end(Answered(answer.status, dict(answer.headers), answer.body)), answer)
            await give(self._send, replay_of(answer))
            return False
        await hold.settle(End.INDETERMINATE, reason="its claim ran out, and nobody could tell how it ended")
        await give(self._send, self._replies.unknown())
        return False

    async def _run(self, hold: Hold, app: App, scope: Scope, receive: Receive) -> None:
        async def sending(message: Message) -> None:
            await self._out(hold, message)

        try:
            await app(scope, receive, sending)
        except Exception as error:
            if hold.token is None:  # it has answered before: what fails now, such as a background task, is not the request's end
                raise
            if not await self._raised(hold, error):
                raise
        except BaseException as error:
            if is_parting(error):
                await hold.settle(End.INDETERMINATE, reason=f"stopped by {type(error).__name__} before it answered")
            raise
        else:
            await self._unfinished(hold)

    # ------------------------------------------------------------ an answer

    async def _out(self, hold: Hold, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start" and self._start is None:
            self._start = message
            if _headers(message).get("content-type", "").startswith("text/event-stream"):
                await self._pass_on(message)
        elif kind == "http.response.body" and self._start is not None and hold.token is not None:
            await self._body(hold, message, self._start)
        else:
            await self._send(message)

    async def _body(self, hold: Hold, message: Message, start: Message) -> None:
        part, more = message.get("body", b""), message.get("more_body", False)
        self._size += len(part)
        if self._passing:
            if not more:
                await self._answered(hold, start)
            await self._send(message)
            return
        self._parts.append(part)
        if not more:
            await self._answered(hold, start)  # first the store, then the caller: what was heard can be said again
            await self._send(start)
            await self._send({"type": "http.response.body", "body": b"".join(self._parts)})
        elif self._size > self.max_response:
            await self._pass_on(start)

    async def _pass_on(self, start: Message) -> None:
        """Send what was held, and from now on each part as it comes: an answer in hand is not refused because it is long."""
        import logging

        log = logging.getLogger("finresilience")
        log.warning("an answer is streamed, or longer than %d bytes: repeats will not get it, only that it was given", self.max_response)
        held, self._parts, self._passing = b"".join(self._parts), [], True
        await self._send(start)
        if held:
            await self._send({"type": "http.response.body", "body": held, "more_body": True})

    async def _answered(self, hold: Hold, start: Message) -> None:
        """Store the answer, whole or not."""
        kept = not self._passing and self._size <= self.max_response
        body, headers = b"".join(self._parts) if kept else b"", _headers(start)
        end = self._end(Answered(start["status"], headers, body, sent=hold.context.sent))
        replayed = tuple((name, value) for name, value in _pairs(start) if name in self._keep)
        reason = f"answered with {start['status']}"
        await hold.settle(end, HttpAnswer(start["status"], replayed, body, kept), reason=reason)

    def _end(self, answered: Answered) -> End:
        """Return what `ends` says; if it fails, nobody knows."""
        try:
            return End(self._ends(answered))
        except Exception as error:
            self._keys.failed("ends", error)
            return End.INDETERMINATE

    # ------------------------------------------------------------ no answer

    async def _raised(self, hold: Hold, error: Exception) -> bool:
        """Note how it ended, by the error; return whether the caller was told."""
        found = None if self._passing else told_of(self._replies.problems, error)
        end = end_of_error(error, hold.context, self._classify, told=found is not None)
        answer = None if found is None else as_answer(found)
        await hold.settle(end, answer if end is End.FAIL else None, reason=f"{type(error).__name__} was raised")
        if answer is not None:
            await give(self._send, answer)
        return answer is not None

    async def _unfinished(self, hold: Hold) -> None:
        """The application has ended; if it has not answered, nobody knows what it did."""
        if hold.token is not None:
            await hold.settle(End.INDETERMINATE, reason="the application ended without a whole answer")
            if not self._passing:
                await give(self._send, self._replies.unknown())


async def give(send: Send, answer: HttpAnswer) -> None:
    """Send a whole answer."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    if answer.status not in {204, 205, 304}:  # which have no body by definition
        headers.append((b"content-length", b"%d" % len(answer.body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def _pairs(start: Message) -> list[tuple[str, str]]:
    return [(bytes(name).decode("latin-1").lower(), bytes(value).decode("latin-1")) for name, value in start.get("headers", ())]


def _headers(start: Message) -> dict[str, str]:
    return dict(_pairs(start))
