"""What do customers do when nobody answers? They send the same request again, under the same key; and some walk away."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

import httpx

from examples.payment_flow.service.acme import Order

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PER_SECOND = 50
PATIENCE = 40.0  # seconds; then they give up, and it counts as unanswered
FINAL = {201: "succeeded", 402: "declined"}
TOLD_ANYTHING = 0.5  # seconds for an answer


@dataclass(frozen=True, slots=True)
class Customer:
    """One customer with one order.

    Args:
        order: what they ask for.
        fickle: whether they walk away when the connection breaks under their request, and never ask again.
        doubtful: whether they send it once more although they were answered.
    """

    order: Order
    fickle: bool
    doubtful: bool


@dataclass(slots=True)
class Told:
    """What became of it, as the customer sees it."""

    status: str | None = None  # None: never answered
    walked_away: bool = False
    sent: int = 0
    replayed: int = 0
    others: list[str] = field(default_factory=list)  # answers that were not the same as the first


def crowd(seed: int, count: int) -> tuple[Customer, ...]:
    """Return the customers of a run."""
    chance = Random(f"customers {seed}")
    return tuple(
        Customer(
            Order(f"order_{number:04}", f"C{chance.randrange(100):02}", chance.randrange(500, 25_000)),
            fickle=chance.random() < 0.4,
            doubtful=chance.random() < 0.25,
        )
        for number in range(count)
    )


async def come(customers: Sequence[Customer], address: Callable[[], str], tick: Callable[[], object]) -> dict[str, Told]:
    """Let them all come, `PER_SECOND`, and return what each was told."""
    told = {customer.order.reference: Told() for customer in customers}
    async with httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=None)) as client, asyncio.TaskGroup() as group:
        for customer in customers:
            group.create_task(_one(_Counter(client, address), customer, told[customer.order.reference], tick))
            await asyncio.sleep(1.0 / PER_SECOND)
    return told


async def _one(counter: _Counter, customer: Customer, told: Told, tick: Callable[[], object]) -> None:
    told.status = await counter.ask(customer, told)
    if customer.doubtful and told.status is not None:
        again = await counter.ask(customer, told)
        if again not in {told.status, None}:
            told.others.append(str(again))
    tick()


@dataclass(frozen=True, slots=True)
class _Counter:
    """Where a customer asks."""

    client: httpx.AsyncClient
    address: Callable[[], str]

    async def ask(self, customer: Customer, told: Told) -> str | None:
        """Ask until there is a yes or a no."""
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + PATIENCE, 0.15
        while loop.time() < until:
            told.sent += 1
            try:
                answer = await self._post(customer.order)
            except httpx.TransportError as error:
                if customer.fickle and not isinstance(error, httpx.ConnectError):
                    told.walked_away = True
                    return None
            else:
                told.replayed += "Idempotent-Replayed" in answer.headers
                if answer.status_code in FINAL:
                    return FINAL[answer.status_code]
            await asyncio.sleep(pause)
            pause = min(0.6, pause * 1.5)
        return None

    async def _post(self, order: Order) -> httpx.Response:
        asked = {"customer": order.customer, "minor": order.minor}
        headers = {"Idempotency-Key": order.reference}
        return await self.client.post(f"{self.address()}/payments", json=asked, headers=headers, timeout=TOLD_ANYTHING)
