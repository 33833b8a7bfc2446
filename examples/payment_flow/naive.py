"""Contestant one: if it fails, try again; if that fails, try elsewhere."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from examples.payment_flow.careful import is_decline
from examples.payment_flow.contest import ATTEMPTS, BACKOFF, Circuits, Said, Told
from examples.payment_flow.script import PROVIDERS

if TYPE_CHECKING:
    from examples.payment_flow.contest import Wire
    from examples.payment_flow.script import Payment


class Naive:
    """Blind retry on any exception, without a key, at one provider and then at the other."""

    name = "naive retry"

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.circuits = Circuits()

    async def pay(self, payment: Payment) -> Told:
        """Pay, somehow."""
        last: Exception | None = None
        for provider in PROVIDERS:
            for _ in range(ATTEMPTS):
                try:
                    await self._wire.charge(provider, payment)
                    return Told(Said.PAID)
                except Exception as error:
                    last = error
                    await asyncio.sleep(BACKOFF)
        return Told(Said.DECLINED if last is not None and is_decline(last) else Said.FAILED)
