"""A till that takes payments once for their key: sync, and in virtual time on asyncio and trio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from finresilience import NON_RETRYABLE, RETRYABLE, ErrorClassifier, Money
from finresilience.durable.amemory_idempotency import AsyncMemoryIdempotencyStore
from finresilience.durable.codecs import dataclass_codec
from finresilience.durable.fingerprints import fingerprint_of
from finresilience.durable.idempotent import AsyncIdempotent, SyncIdempotent
from finresilience.durable.memory_idempotency import MemoryIdempotencyStore
from finresilience.testing import ManualClock, VirtualClock, run_virtual

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.durable.records import KeyState, Record

FLAVOURS: Final = ["sync", "asyncio", "trio"]
LEASE: Final = 60.0
FIFTY: Final = Money("50.00", "USD")


@dataclass(frozen=True)
class Request:
    payment_id: str = "pay_1"
    amount: Money = FIFTY
    account: str = "acc_1"


@dataclass(frozen=True)
class Payment:
    reference: str
    amount: Money
    note: str | None = None


class CardDeclinedError(Exception):
    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class DownError(Exception):
    """Known not applied."""


class LostError(Exception):
    """It may have been applied."""


RULES: Final = ErrorClassifier({CardDeclinedError: NON_RETRYABLE, DownError: RETRYABLE})


def payment_of(req: Request) -> str:
    return req.payment_id


def account_of(req: Request) -> str:
    return req.account


ASKS: Final[dict[str, Any]] = {"key": payment_of, "scope": account_of, "fingerprint": fingerprint_of}


class Till:
    """`pay` makes one call from outside of any loop; the body is a plain function, awaited where the flavour is async."""

    def __init__(self, flavour: str, **store: Any) -> None:
        self.flavour: Any = flavour
        self.clock: Any = ManualClock() if flavour == "sync" else VirtualClock()
        self.store = MemoryIdempotencyStore(clock=self.clock, **store)
        self.shared: Any = self.store if flavour == "sync" else AsyncMemoryIdempotencyStore(self.store)
        self.told: list[Any] = []
        self.runs: list[Any] = []
        self.kinds: dict[str, Any] = {"sync": SyncIdempotent, "async": AsyncIdempotent}

    def made(self, **more: Any) -> Any:
        options: dict[str, Any] = {
            **ASKS,
            "codec": dataclass_codec(Payment),
            "lease": LEASE,
            "deadline": LEASE / 2,
            "classify": RULES,
            "name": "pay",
            "clock": self.clock,
            "listeners": [self.told.append],
            **more,
        }
        return self.kinds["sync" if self.flavour == "sync" else "async"](self.shared, **options)

    def operation(self, body: Callable[[Request], Any], **more: Any) -> Callable[[Request], Any]:
        """Return what makes one call of a body that is a plain function."""
        made = self.made(**more)
        if self.flavour == "sync":

            def pay(req: Request) -> Any:
                self.runs.append(req)
                return body(req)

            plain: Callable[[Request], Any] = made(pay)
            return plain

        async def apay(req: Request) -> Any:
            self.runs.append(req)
            return body(req)

        guarded = made(apay)
        return lambda req: self.run(guarded, req)

    def run(self, function: Any, *args: Any) -> Any:
        """Await one call in virtual time."""
        return run_virtual(lambda: function(*args), backend=self.flavour, clock=self.clock)

    def advance(self, seconds: float) -> None:
        if self.flavour == "sync":
            self.clock.advance(seconds)
        else:
            self.run(self.clock.sleep, seconds)

    def records(self) -> list[Record]:
        return [row.told(self.clock.monotonic()) for _, row in self.store._rows.all()]

    def states(self) -> list[KeyState]:
        return [record.state for record in self.records()]

    def claimed_by_another(self, req: Request | None = None) -> Any:
        """Let somebody else hold the key of this request, from now on."""
        made = self.made()
        made._guarding(paid)
        question = made.question((req or Request(),), {})
        return self.store.claim("pay", question.key, fingerprint=question.fingerprint, lease=LEASE)

    def left_behind(self, *, point: str | None = None) -> None:
        """Let a holder of the key die with it: its lease runs out."""
        claim = self.claimed_by_another()
        if point is not None:
            self.store.advance(claim.token, point, data=b"ref_9")
        self.advance(LEASE + 1)

    def inherited_by_another(self) -> None:
        """Let an heir hold the key, as far as its holder can tell."""
        [record] = self.records()
        row: Any = self.store._rows.get((record.scope, record.key), None)
        self.store._change(row, None, fence=99)

    def events(self) -> list[str]:
        return [type(event).__name__ for event in self.told]


def paid(req: Request) -> Payment:
    return Payment(f"ref_{req.payment_id}", req.amount)
