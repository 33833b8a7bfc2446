"""Which payments are sent, and what goes wrong with each? Told by the seed alone, so that a run can be replayed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random

ACME, GLOBEX = "acme", "globex"
PROVIDERS = (ACME, GLOBEX)  # everybody's first choice, and the second
CURRENCY = "USD"
ALWAYS = 99
LAG = 8.0  # a late booking comes so many seconds after the request
PATIENCE = 20.0  # the providers' promise: what is older than this is never carried out any more


class Fault(StrEnum):
    """What a provider does to a payment."""

    NONE = "none"
    DECLINE = "decline"  # 402
    BUSY = "busy"  # 503 with Retry-After
    RESET = "reset"  # the connection is torn down, nothing is booked
    SLOW = "slow"  # booked, answered late, but in time
    HANG = "hang"  # silence, nothing is booked
    ACCEPT_SILENT = "accept_silent"  # booked, and silence
    ACCEPT_LATE = "accept_late"  # silence, and booked while nobody listens any more
    REFUSE_SILENT = "refuse_silent"  # declined, and silence


DECLINES = frozenset({Fault.DECLINE, Fault.REFUSE_SILENT})
STUBBORN = frozenset({Fault.ACCEPT_SILENT, Fault.REFUSE_SILENT, Fault.ACCEPT_LATE})
WEIGHTS = {
    ACME: {
        Fault.NONE: 840,
        Fault.DECLINE: 80,
        Fault.BUSY: 10,
        Fault.RESET: 10,
        Fault.SLOW: 15,
        Fault.HANG: 10,
        Fault.ACCEPT_SILENT: 20,
        Fault.ACCEPT_LATE: 5,
        Fault.REFUSE_SILENT: 10,
    },
    GLOBEX: {
        Fault.NONE: 940,
        Fault.BUSY: 10,
        Fault.RESET: 10,
        Fault.SLOW: 10,
        Fault.HANG: 10,
        Fault.ACCEPT_SILENT: 15,
        Fault.ACCEPT_LATE: 5,
    },
}


@dataclass(frozen=True, slots=True)
class Fate:
    """What one provider will do with one payment, if it gets it: the fault hits the first `times` attempts."""

    fault: Fault = Fault.NONE
    times: int = 1
    work: float = 0.0  # seconds that an undisturbed answer takes
    slow: float = 1.0  # how many times slower than that the provider is at the moment


@dataclass(frozen=True, slots=True)
class Payment:
    """One payment, and its fate at each of `PROVIDERS`."""

    reference: str
    customer: str
    minor: int
    fates: tuple[Fate, ...]

    def at(self, provider: str) -> Fate:
        """Return its fate at this provider."""
        return self.fates[PROVIDERS.index(provider)]


def slow_stretch(count: int) -> range:
    """Return the numbers of the payments during which acme is ten times slower, and for one in four thirty times."""
    return range(count * 2 // 5, count * 3 // 5)


def script(seed: int, count: int) -> tuple[Payment, ...]:
    """Return `count` payments; early on, a batch of expired cards (4 % of them) is renewed in one go."""
    chance = Random(f"payments {seed}")
    expired = range(count // 5, count // 5 + max(8, count // 25))
    ill = slow_stretch(count)
    return tuple(_payment(chance, number, expired=number in expired, ill=number in ill) for number in range(count))


def _payment(chance: Random, number: int, *, expired: bool, ill: bool) -> Payment:
    customer, minor = f"C{chance.randrange(300):03}", chance.randrange(500, 25_000)
    first = _fate(chance, ACME, no=expired, slow=chance.choice((10.0, 10.0, 10.0, 30.0)) if ill else 1.0)
    second = _fate(chance, GLOBEX, no=first.fault in DECLINES)  # a card that one declines is no good at the other
    return Payment(f"pay_{number:04}", customer, minor, (first, second))


def _fate(chance: Random, provider: str, *, no: bool, slow: float = 1.0) -> Fate:
    weights = WEIGHTS[provider]
    fault = chance.choices(list(weights), list(weights.values()))[0]
    times = chance.choice((1, 1, 2, ALWAYS) if fault in STUBBORN else (1, 1, 2))
    return Fate(Fault.DECLINE if no else fault, times, chance.uniform(0.2, 0.4), slow)
