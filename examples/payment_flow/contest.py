"""How are the payments sent, and what was each customer told?"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from examples.payment_flow.haste import journal_time

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import httpx

    from examples.payment_flow.books import Page
    from examples.payment_flow.script import Payment

# Seconds of real life, the same for everyone.
TIMEOUT = 5.0
ATTEMPTS = 3
BACKOFF = 1.0
BACKOFF_CAP = 4.0
OPEN_FOR = 30.0
PER_SECOND = 6
AT_ONCE = 64


class Said(StrEnum):
    """What the customer was told."""

    PAID = "paid"
    DECLINED = "declined"
    FAILED = "failed"
    UNKNOWN = "we do not know yet"


@dataclass(slots=True)
class Told:
    """What became of one payment, as its contestant sees it."""

    said: Said
    seconds: float = 0.0


@dataclass(slots=True)
class Circuits:
    """How often circuits opened."""

    opened: int = 0


class Contestant(Protocol):
    """One way to write it."""

    name: str
    circuits: Circuits

    async def pay(self, payment: Payment) -> Told:
        """Pay, and say what to tell the customer."""
        ...


@dataclass(slots=True)
class Wire:
    """The plain HTTP calls, the same for everyone."""

    client: httpx.AsyncClient
    addresses: dict[str, str]

    async def charge(self, provider: str, payment: Payment, headers: dict[str, str] | None = None) -> str:
        """Send it once. Raises what httpx raises, an error status included."""
        order = {"reference": payment.reference, "customer": payment.customer, "amount": payment.minor, "sent_at": journal_time()}
        answer = await self.client.post(f"{self.addresses[provider]}/payments", json=order, headers=headers)
        answer.raise_for_status()
        return str(answer.json()["status"])

    async def status(self, provider: str, payment: Payment) -> str | None:
        """Ask what became of it; None if the provider has never seen it."""
        answer = await self.client.get(f"{self.addresses[provider]}/payments/{payment.reference}")
        return None if answer.status_code == 404 else str(answer.raise_for_status().json()["status"])

    async def books(self, provider: str) -> Page:
        """Return the provider's own books."""
        page: Page = (await self.client.get(f"{self.addresses[provider]}/books", timeout=100.0)).json()
        return page


@dataclass(slots=True)
class Run:
    """A whole run of one contestant: what customers were told, and each provider's books."""

    name: str
    told: dict[str, Told] = field(default_factory=dict)
    circuits: Circuits = field(default_factory=Circuits)
    pages: dict[str, Page] = field(default_factory=dict)


async def send_all(contestant: Contestant, payments: Sequence[Payment], tick: Callable[[], object]) -> dict[str, Told]:
    """Send the payments as they come in, `PER_SECOND`, at most `AT_ONCE` in flight."""
    told: dict[str, Told] = {}
    gate = asyncio.Semaphore(AT_ONCE)
    loop = asyncio.get_running_loop()
    begin = loop.time()

    async def one(number: int, payment: Payment) -> None:
        await asyncio.sleep(begin + number / PER_SECOND - loop.time())
        async with gate:
            started = loop.time()
            result = await contestant.pay(payment)
            result.seconds = loop.time() - started
            told[payment.reference] = result
            tick()

    async with asyncio.TaskGroup() as group:
        for number, payment in enumerate(payments):
            group.create_task(one(number, payment))
    return told
