"""Which payments are sent, and what goes wrong with each? Told by the seed alone, so that a run can be replayed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random

PROVIDERS = ("acme", "globex")
CURRENCY = "USD"
ALWAYS = 99
LAG = 0.4  # a late booking comes so many seconds after the request


class Fault(StrEnum):
    """What the provider does to a payment."""

    NONE = "none"
    DECLINE = "decline"  # 402
    BUSY = "busy"  # 503 with Retry-After
    RESET = "reset"  # the connection is torn down, nothing is booked
    SLOW = "slow"  # booked, answered late, but in time
    HANG = "hang"  # silence, nothing is booked
    ACCEPT_SILENT = "accept_silent"  # booked, and silence
    ACCEPT_LATE = "accept_late"  # silence, and booked while nobody listens any more
    REFUSE_SILENT = "refuse_silent"  # declined, and silence


WEIGHTS = {
    Fault.NONE: 700,
    Fault.DECLINE: 80,
    Fault.BUSY: 40,
    Fault.RESET: 40,
    Fault.SLOW: 40,
    Fault.HANG: 30,
    Fault.ACCEPT_SILENT: 35,
    Fault.ACCEPT_LATE: 15,
    Fault.REFUSE_SILENT: 20,
}


@dataclass(frozen=True, slots=True)
class Payment:
    """One payment, and what its provider will do to the first `times` attempts."""

    reference: str
    customer: str
    minor: int
    provider: str
    fault: Fault
    times: int
    work: float  # seconds that an undisturbed answer takes


def script(seed: int, count: int) -> tuple[Payment, ...]:
    """Return `count` payments; a batch of expired cards (4 % of them, all at the first provider) is renewed in one go."""
    chance = Random(f"payments {seed}")
    batch = range(count * 2 // 5, count * 2 // 5 + max(8, count // 25))
    return tuple(_payment(chance, number, expired=number in batch) for number in range(count))


def _payment(chance: Random, number: int, *, expired: bool) -> Payment:
    fault = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    provider = chance.choice(PROVIDERS)
    times = chance.choice((1, 1, 2, ALWAYS) if fault in {Fault.ACCEPT_SILENT, Fault.REFUSE_SILENT, Fault.ACCEPT_LATE} else (1, 1, 2))
    return Payment(
        reference=f"pay_{number:04}",
        customer=f"C{chance.randrange(300):03}",
        minor=chance.randrange(500, 25_000),
        provider=PROVIDERS[0] if expired else provider,
        fault=Fault.DECLINE if expired else fault,
        times=times,
        work=chance.uniform(0.003, 0.012),
    )
