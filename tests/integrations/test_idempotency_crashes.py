"""A worker dies at every place that has a name, and once more when it is asked again: nobody pays twice, and nobody waits for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from finresilience import current_key
from finresilience.durable.amemory_idempotency import AsyncMemoryIdempotencyStore
from finresilience.durable.memory_idempotency import MemoryIdempotencyStore
from finresilience.integrations.idempotency_answers import HttpAnswer
from finresilience.integrations.idempotency_asgi import IdempotencyMiddleware, TakenOver
from finresilience.integrations.idempotency_keys import Keys
from finresilience.outcome import Found, NotFound
from finresilience.testing import CounterexampleError, VirtualClock, crash
from tests.integrations.idempotency_shop import KEY, posted, say, tenant

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finresilience.integrations.asgi import Receive, Scope, Send

POINTS = ["http.claimed", "http.answered", "http.settled"]
LEASE = 60.0


class Bank:
    """A provider that pays, and remembers for whom: it would pay twice if asked twice."""

    def __init__(self) -> None:
        self.payments: list[str | None] = []

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.payments.append(current_key())
        await say(send, 201, b"receipt %d" % len(self.payments))

    async def asked(self, taken_over: TakenOver) -> Found[HttpAnswer] | NotFound:
        paid = taken_over.key in self.payments
        return Found(HttpAnswer(201, (), b"receipt 1")) if paid else NotFound()


def a_payment(*, asks: bool) -> tuple[Callable[[], Awaitable[object]], Callable[[], Awaitable[object]]]:
    bank, world = Bank(), list[Any]()

    def service() -> Any:
        if not world:
            world.append(MemoryIdempotencyStore())
        store = AsyncMemoryIdempotencyStore(world[0])
        return IdempotencyMiddleware(bank.serve, store, scope=tenant, lease=LEASE, on_takeover=bank.asked if asks else None)

    async def pay() -> int:
        return (await posted(service(), [(KEY, "k1")], b"{}")).status

    async def recover() -> None:
        heard: list[int] = []
        for _ in range(2):
            await VirtualClock.current().sleep(LEASE + 1)
            heard.append(await pay())
        assert len(bank.payments) <= 1, "the bank paid twice"
        assert heard[-1] in ({201} if asks else {201, 202}), "the caller waits for ever"

    return pay, recover


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("asks", [False, True])
def test_a_worker_that_dies_anywhere_pays_once_and_the_caller_hears_the_truth(asks: bool, backend: Any) -> None:
    assert crash.everywhere(lambda: a_payment(asks=asks), depth=2, must_reach=POINTS, backend=backend).runs > 3


def test_a_middleware_that_releases_what_it_cannot_know_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    claim = Keys.claim

    async def as_new(self: Keys, space: str, key: str, fingerprint: str) -> Any:
        """The saboteur: a claim that ran out is taken for a new one."""
        from dataclasses import replace

        found: Any = await claim(self, space, key, fingerprint)
        return replace(found, takeovers=0) if getattr(found, "takeover", False) else found

    monkeypatch.setattr(Keys, "claim", as_new)
    with pytest.raises(CounterexampleError, match="replay: everywhere"):
        crash.everywhere(lambda: a_payment(asks=True))
