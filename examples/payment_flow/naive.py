"""Contestant one: if it fails, try again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from examples.payment_flow.contest import ATTEMPTS, BACKOFF, Circuits, Said, Told

if TYPE_CHECKING:
    from examples.payment_flow.contest import Wire
    from examples.payment_flow.script import Payment


class Naive:
    """Blind retry on any exception, without a key."""

    name = "naive retry"

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.circuits = Circuits()

    async def pay(self, payment: Payment) -> Told:
        """Pay, somehow."""
        for _ in range(ATTEMPTS):
            try:
                await self._wire.charge(payment)
                return Told(Said.PAID)
            except Exception:
                await asyncio.sleep(BACKOFF)
        return Told(Said.FAILED)
