"""Contestant three: a finresilience pipeline. The only one that may say "we do not know yet", and then asks."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from examples.payment_flow.careful import is_decline
from examples.payment_flow.contest import ATTEMPTS, BACKOFF, BACKOFF_CAP, OPEN_FOR, TIMEOUT, Circuits, Said, Told
from examples.payment_flow.script import PROVIDERS, Payment
from finresilience import (
    CircuitBreaker,
    CircuitChanged,
    Declined,
    Effect,
    Failed,
    Found,
    FullJitter,
    InquiryAnswered,
    NotFound,
    Ok,
    Pipeline,
    Refused,
    Retry,
    StillUnknown,
    Timeout,
    TimeWindow,
    Unknown,
    current_key,
    payments_classifier,
)

if TYPE_CHECKING:
    from examples.payment_flow.contest import Wire
    from finresilience import Event

ASK_AFTER = (0.1, 0.4, 0.9)  # longer in all than the provider's own limit: only the last "not found" is believed
DEADLINE = 2.5


class Ours:
    """One pipeline for each provider."""

    name = "finresilience"

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.circuits = Circuits()
        self._resolved: set[str] = set()
        self._bad: dict[str, deque[bool]] = {name: deque(maxlen=10) for name in PROVIDERS}  # the latest: was it a decline?
        self._pipelines = {name: self._pipeline(name) for name in PROVIDERS}

    def _pipeline(self, name: str) -> Pipeline:
        pipeline = Pipeline(
            f"{name}.charge",
            CircuitBreaker(name, window=TimeWindow(3), failure_rate=0.5, minimum_calls=20, open_for=OPEN_FOR, listeners=(self._hear,)),
            Retry(attempts=ATTEMPTS, backoff=FullJitter(base=BACKOFF, cap=BACKOFF_CAP), listeners=()),
            Timeout(TIMEOUT),
            classify=payments_classifier(),
            effect=Effect.IDEMPOTENT,
            key=lambda payment: payment.reference,
            reference=lambda payment: payment.reference,
            deadline=DEADLINE,
            listeners=(self._hear,),
        )
        pipeline.inquiry(schedule=ASK_AFTER)(self._find)
        return pipeline

    async def _charge(self, payment: Payment) -> str:
        try:
            return await self._wire.charge(payment, {"Idempotency-Key": current_key() or ""})
        except BaseException as error:
            self._bad[payment.provider].append(is_decline(error))
            raise

    async def _find(self, payment: Payment) -> Found[str] | NotFound | StillUnknown:
        match await self._wire.status(payment):
            case None:
                return NotFound()
            case status:
                return Found(status)

    async def pay(self, payment: Payment) -> Told:
        """Pay, and tell the truth."""
        outcome = await self._pipelines[payment.provider].aoutcome(self._charge, payment)
        resolved = payment.reference in self._resolved
        match outcome:
            case Ok("succeeded"):
                return Told(Said.PAID, resolved)
            case Ok() | Declined():
                return Told(Said.DECLINED, resolved)
            case Failed() | Refused():
                return Told(Said.FAILED, resolved)
            case Unknown():
                return Told(Said.UNKNOWN)

    def _hear(self, event: Event) -> None:
        if isinstance(event, CircuitChanged) and event.after == "open":
            self.circuits.opened += 1
            bad = self._bad[event.name]
            self.circuits.by_declines += sum(bad) * 2 > len(bad)
        if isinstance(event, InquiryAnswered) and event.reference is not None:
            self._resolved.add(event.reference)
