"""Contestant three: a pipeline for each provider, a failover over both. The only one that may say "we do not know yet", and then asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from examples.payment_flow.contest import ATTEMPTS, BACKOFF, BACKOFF_CAP, OPEN_FOR, TIMEOUT, Circuits, Said, Told
from examples.payment_flow.script import PROVIDERS, Payment
from finresilience import (
    Bulkhead,
    CircuitBreaker,
    CircuitChanged,
    Declined,
    Effect,
    Failed,
    Failover,
    Found,
    FullJitter,
    NotFound,
    Ok,
    Pipeline,
    Refused,
    Retry,
    Route,
    StillUnknown,
    Timeout,
    TimeWindow,
    Unknown,
    current_key,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from examples.payment_flow.contest import Wire
    from finresilience import Clock, Event

ASK_AFTER = (2.0, 8.0, 18.0)  # longer in all than the providers' own limit: only the last "not found" is believed
SLOW_AFTER = 2.0  # while all is well, nineteen answers in twenty take less


def reference_of(payment: Payment) -> str:
    """Return our own name of a payment."""
    return payment.reference


class Ours:
    """An unknown payment stays at its provider, and is asked about there. What surely did not happen may go to the other."""

    name = "finresilience"

    def __init__(self, wire: Wire, clock: Clock | None = None) -> None:
        self._wire = wire
        self._clock = clock
        self.circuits = Circuits()
        self._charges = Failover(
            [self._route(name) for name in PROVIDERS],
            name="charges",
            key=reference_of,  # each provider gets a key of its own, derived from it
            reference=reference_of,
            slow_after=SLOW_AFTER,
            clock=clock,
        )

    def _route(self, provider: str) -> Route[[Payment], Coroutine[object, object, str]]:
        pipeline = Pipeline(
            f"{provider}.charge",
            CircuitBreaker(provider, window=TimeWindow(60), failure_rate=0.5, minimum_calls=20, open_for=OPEN_FOR, listeners=(self._hear,)),
            Retry(attempts=ATTEMPTS, backoff=FullJitter(base=BACKOFF, cap=BACKOFF_CAP)),
            Bulkhead(40, queue=20, max_wait=1.0),
            Timeout(TIMEOUT),
            effect=Effect.IDEMPOTENT,
            deadline=50.0,
            clock=self._clock,
        )

        @pipeline
        async def charge(payment: Payment) -> str:
            return await self._wire.charge(provider, payment, {"Idempotency-Key": current_key() or ""})

        @pipeline.inquiry(schedule=ASK_AFTER)
        async def find(payment: Payment) -> Found[str] | NotFound | StillUnknown:
            status = await self._wire.status(provider, payment)
            return NotFound() if status is None else Found(status)

        return Route(provider, charge)

    async def pay(self, payment: Payment) -> Told:
        """Pay, and tell the truth."""
        match await self._charges.aoutcome(payment):
            case Ok("succeeded"):
                return Told(Said.PAID)
            case Ok() | Declined():
                return Told(Said.DECLINED)
            case Failed() | Refused():
                return Told(Said.FAILED)
            case Unknown():
                return Told(Said.UNKNOWN)

    def _hear(self, event: Event) -> None:
        self.circuits.opened += isinstance(event, CircuitChanged) and event.after == "open"
