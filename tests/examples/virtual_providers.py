"""The demo's providers in memory and in virtual time: the same books, no socket, no thread, nothing that depends on the machine."""

from __future__ import annotations

import asyncio
import json
from random import Random
from typing import TYPE_CHECKING

import httpx

from examples.payment_flow.books import CHARGE, HUNG_UP, INQUIRY, Books
from examples.payment_flow.contest import TIMEOUT, Run, Wire, send_all
from examples.payment_flow.script import PATIENCE, PROVIDERS
from finresilience.policies.base import chance
from finresilience.testing import run_virtual

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from examples.payment_flow.books import Reply
    from examples.payment_flow.contest import Contestant
    from examples.payment_flow.script import Payment


def now() -> float:
    return asyncio.get_running_loop().time()


class VirtualProviders:
    """Answers for all providers as `provider.py` does for one."""

    def __init__(self, payments: Sequence[Payment]) -> None:
        self.books = {name: Books(name, payments) for name in PROVIDERS}
        self._late: set[asyncio.Task[None]] = set()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        books = self.books[request.url.host]
        if request.method == "GET":
            return self._asked(books, request.url.path.removeprefix("/payments/"))
        reference, key, came = json.loads(request.content)["reference"], request.headers.get("Idempotency-Key"), now()
        reply = books.take(reference, key)
        return await self._answer(books, reply, request, reference, key, came)

    def _asked(self, books: Books, reference: str) -> httpx.Response:
        found = books.find(reference)
        books.note(reference, INQUIRY, came=now(), left=now(), end=found or "not found")
        return httpx.Response(200, json={"status": found}) if found else httpx.Response(404)

    async def _answer(
        self, books: Books, reply: Reply, request: httpx.Request, reference: str, key: str | None, came: float
    ) -> httpx.Response:
        if reply.status is None:
            books.note(reference, CHARGE, came=came, left=came, end=reply.end)
            if reply.book_after is not None:
                task = asyncio.create_task(self._book_late(books, reference, key, reply.book_after))
                self._late.add(task)
                task.add_done_callback(self._late.discard)
        elif reply.status > 0 and reply.wait <= TIMEOUT:
            await asyncio.sleep(reply.wait)
            books.note(reference, CHARGE, came=came, left=now(), end=reply.end)
            headers = {"Retry-After": "2"} if reply.status == 503 else {}
            return httpx.Response(reply.status, headers=headers, json={"status": reply.body}, request=request)
        else:
            books.note(reference, CHARGE, came=came, left=came + reply.wait, end=HUNG_UP if reply.status > 0 else reply.end)
        if reply.status == -1:
            raise httpx.ReadError("connection reset", request=request)
        await asyncio.sleep(TIMEOUT)
        raise httpx.ReadTimeout("no answer", request=request)

    async def _book_late(self, books: Books, reference: str, key: str | None, after: float) -> None:
        await asyncio.sleep(after)
        books.book(reference, key)


def compete(make: Callable[[Wire], Contestant], payments: Sequence[Payment], seed: int = 0) -> Run:
    """Let one contestant send everything, and return what the books say afterwards; the seed tells the jitter of our waits."""
    providers = VirtualProviders(payments)

    async def main() -> Run:
        async with httpx.AsyncClient(transport=httpx.MockTransport(providers), trust_env=False) as client:
            contestant = make(Wire(client, {name: f"http://{name}" for name in PROVIDERS}))
            told = await send_all(contestant, payments, lambda: None)
            await asyncio.sleep(PATIENCE)
        pages = {name: books.page() for name, books in providers.books.items()}
        return Run(contestant.name, told, contestant.circuits, pages)

    chance._random = Random(seed).random
    try:
        return run_virtual(main)
    finally:
        chance.renew()
