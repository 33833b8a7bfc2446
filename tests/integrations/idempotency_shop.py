"""A shop behind the idempotency middleware: a handler that does as it is told, a store, a clock that stands still, and who asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from finresilience.durable.amemory_idempotency import AsyncMemoryIdempotencyStore
from finresilience.durable.memory_idempotency import MemoryIdempotencyStore
from finresilience.durable.records import Claimed
from finresilience.integrations.idempotency_asgi import IdempotencyMiddleware, request_of
from finresilience.integrations.idempotency_http import fingerprint_of, key_space
from finresilience.testing import ManualClock
from tests.integrations.asgi_calls import Answer, scope_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from finresilience.durable.records import KeyState, Record
    from finresilience.integrations.asgi import Message, Receive, Scope, Send

KEY: Final = "Idempotency-Key"
JSON: Final = (b"content-type", b"application/json")
LEASE: Final = 60.0


def tenant(scope: Scope) -> str | None:
    return scope.get("tenant", "m_1")  # type: ignore[no-any-return]  # a test says who it is


async def say(send: Send, status: int = 201, body: bytes = b'{"id":1}', *headers: tuple[bytes, bytes]) -> None:
    """Answer in one piece."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [JSON, length, *headers]})
    await send({"type": "http.response.body", "body": body})


class Handler:
    """An application that counts its runs, reads its request, and answers by its script: the last word holds for all later runs.

    A word is a status, an exception to raise, or an async function of (scope, receive, send).
    """

    def __init__(self, *script: Any) -> None:
        self.script = list(script) or [201]
        self.runs = 0
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.runs += 1
        message = await receive()
        self.bodies.append(message["body"])
        word = self.script[min(self.runs, len(self.script)) - 1]
        if isinstance(word, BaseException):
            raise word
        if isinstance(word, int):
            await say(send, word, b'{"run":%d}' % self.runs)
        else:
            await word(scope, receive, send)


class Shop:
    """The handler, behind the middleware, over a store in memory."""

    def __init__(self, *script: Any, middleware: Any = IdempotencyMiddleware, store: Any = None, **options: Any) -> None:
        self.handler = Handler(*script)
        self.clock = ManualClock()
        self.books = MemoryIdempotencyStore(clock=self.clock)
        self.store: Any = AsyncMemoryIdempotencyStore(self.books) if store is None else store(self.books)
        self.app = middleware(self.handler, self.store, **{"scope": tenant, "clock": self.clock, "lease": LEASE, **options})

    @property
    def runs(self) -> int:
        return self.handler.runs

    async def post(self, key: str | bytes | None = "k1", body: bytes = b"{}", *, headers: Iterable[Any] = (), **more: Any) -> Answer:
        given = [] if key is None else [(KEY, key)]
        return await posted(self.app, [*given, *headers], body, **more)

    def record(self, key: str = "k1", who: str = "m_1") -> Record | None:
        return self.books.find(key_space(who), key)

    def state(self, key: str = "k1", who: str = "m_1") -> KeyState | None:
        found = self.record(key, who)
        return None if found is None else found.state

    def claimed_by_another(self, key: str = "k1", body: bytes = b"{}") -> Claimed:
        """Claim the key as a worker would that then dies, or takes its time."""
        found = self.books.claim(key_space("m_1"), key, fingerprint=fingerprint_of(request_of(scope_of(), body)), lease=LEASE)
        assert isinstance(found, Claimed)
        return found

    def __len__(self) -> int:
        return len(self.books._rows)


async def posted(app: Any, headers: Iterable[Any], *parts: bytes, **more: Any) -> Answer:
    """Send one request, in these parts, and return the whole answer; status 0 if there was none."""
    sent: list[Message] = []
    coming = [{"type": "http.request", "body": part, "more_body": number < len(parts)} for number, part in enumerate(parts, start=1)]

    async def receive() -> Message:
        return coming.pop(0) if coming else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope_of(headers, **more), receive, send)
    return read(sent)


def read(sent: list[Message]) -> Answer:
    """Return what was sent as an answer; status 0 if it was nothing."""
    if not sent:
        return Answer(0, {}, b"")
    start, *bodies = sent
    told = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in start["headers"]}
    return Answer(start["status"], told, b"".join(message.get("body", b"") for message in bodies))
