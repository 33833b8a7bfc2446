"""Providers that fail in one way, and how their callers end: shared by the tests of the fake provider."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finresilience import Money
from finresilience.outcome import Found, NotFound, StillUnknown
from finresilience.testing.clock import ManualClock
from finresilience.testing.faults import Fault, FaultKind, FaultPlan
from finresilience.testing.provider import FakeProvider, ProviderError, Receipt

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

EUR = Money("12.50", "EUR")
NOTHING = Money("0.00", "EUR")


@dataclass(frozen=True)
class Seen:
    """How one call ended for its caller: a word, a status if one came, and the seconds that it took."""

    word: str
    status: int | None
    seconds: float


def failing(*kinds: FaultKind, clock: Any = None, plan: FaultPlan | None = None, **told: Any) -> FakeProvider:
    """A provider whose every first attempt fails so."""
    fates = [Fault(kind=kind, nth=(1,), operation="charge") for kind in kinds]
    return FakeProvider("acme", plan or FaultPlan(fates, seed=7), clock=clock or ManualClock(), **told)


def said(result: object) -> tuple[str, int | None]:
    if isinstance(result, ProviderError):
        return type(result).__name__.removeprefix("Provider").removesuffix("Error").lower(), result.status
    if isinstance(result, NotFound | StillUnknown):
        return type(result).__name__, None
    if isinstance(result, Found):
        return result.value.result, result.value.status
    assert isinstance(result, Receipt)
    return result.result, result.status


def heard(provider: FakeProvider, call: Callable[[], object]) -> Seen:
    began = provider.clock.monotonic()
    try:
        result = call()
    except ProviderError as error:
        result = error
    return Seen(*said(result), provider.clock.monotonic() - began)


async def aheard(provider: FakeProvider, call: Callable[[], Awaitable[object]]) -> Seen:
    began = provider.clock.monotonic()
    try:
        result = await call()
    except ProviderError as error:
        result = error
    return Seen(*said(result), provider.clock.monotonic() - began)


def charged(provider: FakeProvider, *, key: str | None = "", tag: str = "", reference: str = "pay_1", amount: Money = EUR) -> Seen:
    """Charge under a key of the payment's own, unless told another, or None for none."""
    key = f"key of {reference}" if key == "" else key
    return heard(provider, lambda: provider.charge(reference, amount, key=key, tag=tag))


def asked(provider: FakeProvider, operation: str = "charge", reference: str = "pay_1") -> Seen:
    return heard(provider, lambda: provider.inquiry(reference, operation))
