"""An API with one endpoint behind the dependency: over a store in memory, in a transaction or under a lease."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi.responses import Response
from fastapi.testclient import TestClient
from pydantic import BaseModel

from finresilience.durable.amemory_idempotency import AsyncMemoryIdempotencyStore
from finresilience.durable.memory_idempotency import MemoryIdempotencyStore
from finresilience.durable.memory_outbox import MemoryOutbox
from finresilience.durable.memory_transaction import MemoryTransaction
from finresilience.durable.messages import OutboxMessage
from finresilience.durable.records import Claimed, KeyState
from finresilience.integrations.idempotency_fastapi import HttpClaim, IdempotentRoute, idempotency
from finresilience.integrations.idempotency_http import key_space
from finresilience.testing import ManualClock
from tests.integrations.asgi_calls import NAME
from tests.integrations.idempotency_shop import LEASE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

SPACE = key_space("m_1", "POST /payments")


class Asked(BaseModel):
    amount: int


def tenant() -> str:
    return "m_1"


class Desk:
    """An API with one endpoint over a store in memory; `pay` says what it does. A transaction commits if its block ends well."""

    def __init__(self, backend: Any, *, shared: bool = True, sync: bool = False, commits: bool = True, **options: Any) -> None:
        self.clock = ManualClock()
        self.books = MemoryIdempotencyStore(clock=self.clock)
        self.outbox = MemoryOutbox(clock=self.clock)
        store: Any = self.books if sync else AsyncMemoryIdempotencyStore(self.books)
        self.runs = 0
        self.commits = commits
        self.within = self.session if shared else None
        given: dict[str, Any] = {"scope": tenant, "within": self.within, "clock": self.clock, "lease": LEASE, **options}
        self.once = Depends(idempotency(store, **given))
        self.opened = Depends(self.session)
        self.app, self.router = FastAPI(), APIRouter(route_class=IdempotentRoute)
        self.backend = backend

    async def session(self) -> AsyncGenerator[MemoryTransaction]:
        transaction = MemoryTransaction()
        try:
            yield transaction
        except BaseException:
            transaction.rollback()
            raise
        if transaction.state == "open":
            transaction.commit() if self.commits else transaction.rollback()

    def effect(self, session: MemoryTransaction) -> None:
        self.runs += 1
        message = OutboxMessage(topic="payments", key="acc_1", type="PaymentInitiated", payload={"n": self.runs})
        self.outbox.add(session, message)

    @property
    def effects(self) -> int:
        return self.outbox.statistics().pending

    def client(self) -> TestClient:
        self.app.include_router(self.router)
        return TestClient(self.app, backend=self.backend, raise_server_exceptions=False)

    def claimed_like(self, key: str) -> Claimed:
        """Claim k1 for the request that came under another key, as a worker would that then dies."""
        like = self.books.find(SPACE, key)
        assert like is not None
        found = self.books.claim(SPACE, "k1", fingerprint=like.fingerprint, lease=LEASE)
        assert isinstance(found, Claimed)
        return found

    def state(self) -> KeyState | None:
        found = self.books.find(SPACE, "k1")
        return None if found is None else found.state


def told(answer: Any) -> str:
    return str(answer.json()["type"]).removeprefix(NAME)


def post(client: TestClient, amount: Any = 50, key: str | None = "k1") -> Any:
    return client.post("/payments", json={"amount": amount}, headers={} if key is None else {"Idempotency-Key": key})


def shared_desk(backend: Any, **options: Any) -> Desk:
    """Return a desk whose endpoint does its work, its record and its answer in one transaction."""
    desk = Desk(backend, **options)

    @desk.router.post("/payments")
    async def pay(asked: Asked, session: Any = desk.opened, once: HttpClaim = desk.once) -> Response:
        desk.effect(session)
        answer = await once.complete({"run": desk.runs, "amount": asked.amount}, status_code=201, headers={"Location": "/payments/1"})
        session.commit()
        return answer

    return desk


def leased_desk(backend: Any, *words: Any, **options: Any) -> Desk:
    """Return a desk whose endpoint answers by its script, under a lease."""
    desk = Desk(backend, shared=False, **options)

    @desk.router.post("/payments", status_code=201)
    async def pay(asked: Asked, once: HttpClaim = desk.once) -> Any:
        desk.runs += 1
        word = words[min(desk.runs, len(words)) - 1] if words else {"run": desk.runs}
        if isinstance(word, Exception):
            raise word
        answer: Any = word(once) if callable(word) and not isinstance(word, Response) else None
        return word if answer is None else await answer

    return desk
