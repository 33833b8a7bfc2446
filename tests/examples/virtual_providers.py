"""The demo's providers in memory and in virtual time: the same books, no socket, no thread, nothing that depends on the machine."""

from __future__ import annotations

import asyncio
import json
from random import Random
from typing import TYPE_CHECKING

import httpx

from examples.payment_flow.books import CHARGE, HUNG_UP, INQUIRY, Books, end_of
from examples.payment_flow.contest import TIMEOUT, Run, Wire, send_all
from examples.payment_flow.script import PATIENCE, PROVIDERS
from finresilience.policies.base import chance
from finresilience.testing import run_virtual
from finresilience.testing.provider import How

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from examples.payment_flow.contest import Contestant
    from examples.payment_flow.script import Payment
    from finresilience.testing.provider import Reply


def now() -> float:
    return asyncio.get_running_loop().time()


class VirtualProviders:
    """Answers for all providers as `provider.py` does for one; their time is that of the virtual loop, which rules."""

    def __init__(self, payments: Sequence[Payment]) -> None:
        self.books = {name: Books(name, payments) for name in PROVIDERS}

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        books = self.books[request.url.host]
        if request.method == "GET":
            return self._asked(books, request.url.path.removeprefix("/payments/"))
        reference, came = json.loads(request.content)["reference"], now()
        reply = books.take(reference, request.headers.get("Idempotency-Key"))
        return await self._answer(books, reply, request, reference, came)

    def _asked(self, books: Books, reference: str) -> httpx.Response:
        found = books.find(reference)
        books.note(reference, INQUIRY, came=now(), left=now(), end=found or "not found")
        return httpx.Response(200, json={"status": found}) if found else httpx.Response(404)

    async def _answer(self, books: Books, reply: Reply, request: httpx.Request, reference: str, came: float) -> httpx.Response:
        receipt = reply.receipt
        if receipt is not None and reply.wait <= TIMEOUT:
            await asyncio.sleep(reply.wait)
            books.note(reference, CHARGE, came=came, left=now(), end=end_of(reply))
            headers = {} if receipt.retry_after is None else {"Retry-After": f"{receipt.retry_after:g}"}
            return httpx.Response(receipt.status, headers=headers, json={"status": receipt.result}, request=request)
        books.note(reference, CHARGE, came=came, left=came + reply.wait, end=end_of(reply) if receipt is None else HUNG_UP)
        if reply.how is How.RESET:
            raise httpx.ReadError("connection reset", request=request)
        await asyncio.sleep(TIMEOUT)
        raise httpx.ReadTimeout("no answer", request=request)


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
