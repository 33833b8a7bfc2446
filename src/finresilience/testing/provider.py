"""A payment provider for tests: it fails as the plan says, and its ledger knows what really happened."""

from __future__ import annotations

import threading
from math import inf
from typing import TYPE_CHECKING, cast, final

from finresilience._checks import name_of, refuse, seconds_of
from finresilience.clock import ruling_clock
from finresilience.testing.faults import FaultPlan
from finresilience.testing.ledger import Ledger
from finresilience.testing.provider_client import Client
from finresilience.testing.provider_core import ProviderCore, Visit
from finresilience.testing.provider_keys import Keys
from finresilience.testing.provider_words import (
    CHARGE,
    OPERATIONS,
    How,
    Order,
    ProviderBusyError,
    ProviderDeclinedError,
    ProviderError,
    ProviderGarbledError,
    ProviderKeyInUseError,
    ProviderRefusedError,
    ProviderResetError,
    ProviderTimeoutError,
    Receipt,
    Reply,
    classifier,
)
from finresilience.testing.webhooks import Delivery, Webhooks, delivered, secret_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from datetime import timedelta

    from finresilience.classify.classifier import ErrorClassifier
    from finresilience.clock import Clock
    from finresilience.testing.provider_asgi import App

__all__ = [
    "Delivery",
    "FakeProvider",
    "How",
    "Ledger",
    "Order",
    "ProviderBusyError",
    "ProviderDeclinedError",
    "ProviderError",
    "ProviderGarbledError",
    "ProviderKeyInUseError",
    "ProviderRefusedError",
    "ProviderResetError",
    "ProviderTimeoutError",
    "Receipt",
    "Reply",
    "Visit",
]


@final
class FakeProvider(Client):
    """Charge, refund and inquire as at a real provider, with every trouble that a `FaultPlan` can name, replayed from its seed.

        provider = FakeProvider("acme", FaultPlan([Fault(kind=FaultKind.TIMEOUT_AFTER, nth=(1,))]))
        charge(provider)                             # your code: a client of it, in process, over ASGI or over HTTP
        assert provider.ledger.charged_twice() == ()

    Which fault a call meets depends on the plan, on the operation, the reference and the number of the attempt, not on the order in which
    calls come. One key is carried out once: the same request again gets the stored answer, another one 422, and 409 while the first is
    at work. Time is that of the clock, so that nothing waits under a `ManualClock`, `instant()` or `run_virtual`. Safe to share between
    threads and event loops.

    Args:
        name: for its bookings and errors.
        plan: what goes wrong; nothing by default.
        clock: tells the time; by default the ruling one.
        latency: seconds that a request travels, and an answer back.
        patience: seconds after which the in-process client gives up by itself, or at the deadline of the call around it, if that is first.
        secret: of the webhooks' signatures; made from the seed by default.
        keys: how many idempotency keys it remembers; the oldest are forgotten, which is a fault of its own to test.
        keys_kept_for: seconds after which it forgets a key.
        webhooks: how many deliveries wait to be fetched; the oldest are lost.
        at_most: how many requests it takes in all, so that its books stay bounded; one more is a `BoundReachedError`.
        shows_pending: whether inquiries see what is yet to be carried out; else they see nothing of it, and then, suddenly, money.

    Attributes:
        secret: for `verify`.
        plan: what goes wrong; another may be set at any time.

    Raises:
        ConfigurationError: if an argument cannot work; the message names it.
    """

    def __init__(
        self,
        name: str = "provider",
        plan: FaultPlan | None = None,
        *,
        clock: Clock | None = None,
        latency: float | timedelta = 0.0,
        patience: float | timedelta = 30.0,
        secret: str | None = None,
        keys: int = 100_000,
        keys_kept_for: float | timedelta = inf,
        webhooks: int = 10_000,
        at_most: int = 1_000_000,
        shows_pending: bool = True,
    ) -> None:
        plan = _checked(FaultPlan() if plan is None else plan)
        super().__init__(
            name_of("name", name), latency=seconds_of("latency", latency, zero=True), patience=seconds_of("patience", patience)
        )
        self.secret: str = secret_of(f"{name}|{plan.seed}") if secret is None else secret
        self._clock = clock
        self._last: Clock | None = None  # the one that told the time of the last request
        self._lock = threading.Lock()  # looked up here: so `explore_threads` gives a lock that hands over
        kept = Keys(limit=keys, kept_for=keys_kept_for)
        self._webhooks = Webhooks(webhooks)
        self._core = ProviderCore(name, plan, keys=kept, webhooks=self._webhooks, at_most=at_most, shows_pending=shows_pending)

    @staticmethod
    def classifier() -> ErrorClassifier:
        """Return what the errors and receipts of this client tell about the money: `Pipeline(..., classify=provider.classifier())`."""
        return classifier()

    # ------------------------------------------------------------------ over the wire

    def asgi(self) -> App:
        """Return an ASGI app that is this provider: for `httpx.ASGITransport`, or any ASGI server.

        Silence never answers until the client is gone, and a reset raises `ConnectionResetError` out of the app.
        """
        from finresilience.testing.provider_asgi import App

        return App(self)

    def serve(self) -> AbstractContextManager[str]:
        """Return a context manager that serves this provider by HTTP on a loopback port, and gives the URL.

        In threads, with the standard library only: silence is real, and so is a reset. Leaving the block closes every connection.
        In virtual time take `asgi()` instead, for sockets know nothing of it: entering the block then raises `ConfigurationError`.
        """
        from finresilience.testing.provider_http import Served

        return Served(self)

    def take(self, order: Order) -> Reply:
        """Take one request now, and return what its sender is to see: for a face of your own."""
        with self._lock:
            return self._core.take(order, self._now())

    def look(self, reference: str, operation: str = CHARGE, *, tag: str = "") -> Reply:
        """Take one inquiry now, and return what its sender is to see: for a face of your own."""
        name_of("reference", reference)
        if operation not in OPERATIONS:
            refuse("operation", operation, f"one of {', '.join(sorted(OPERATIONS))}")
        with self._lock:
            return self._core.look(reference, operation, self._now(), tag)

    @property
    def clock(self) -> Clock:
        """The clock that tells it the time now."""
        return self._clock or ruling_clock()

    # ------------------------------------------------------------------ the truth

    @property
    def ledger(self) -> Ledger:
        """What really happened up to now."""
        with self._lock:
            self._core.settle(self._read())
            return Ledger(self._core.bookings)

    @property
    def visits(self) -> tuple[Visit, ...]:
        """Every request that came, in order, and how it ended for whoever sent it."""
        with self._lock:
            return tuple(self._core.visits)

    @property
    def outstanding(self) -> int:
        """How much is yet to be carried out by itself, at a later time."""
        with self._lock:
            self._core.settle(self._read())
            return self._core.outstanding

    def settle(self) -> int:
        """Carry out at once what was to happen later, and return how much that was: the end of a test need not wait for it."""
        with self._lock:
            return self._core.settle(self._read(), everything=True)

    def heal(self) -> None:
        """Let nothing go wrong from now on; what was to happen later still will."""
        self.plan = self.plan.healed()

    @property
    def plan(self) -> FaultPlan:
        """What goes wrong; another may be set at any time."""
        return self._core.plan

    @plan.setter
    def plan(self, plan: FaultPlan) -> None:
        self._core.plan = _checked(plan)

    # ------------------------------------------------------------------ webhooks

    def deliveries(self, *, late: bool = False) -> Iterator[Delivery]:
        """Yield what the provider tells by now, signed when it is fetched; with `late`, also what it would tell later.

        Each is told once, unless a fault says otherwise or you `redeliver` it. What your endpoint does meanwhile may add more.
        """
        while (delivery := self._next_delivery(late=late)) is not None:
            yield delivery

    def redeliver(self, delivery: Delivery) -> bool:
        """Let a delivery that your endpoint did not take come again, after 5 s, 5 min, 30 min, 2 h, 5 h and 10 h; False after that."""
        with self._lock:
            return self._webhooks.again(delivery, self._read())

    @property
    def webhooks(self) -> Webhooks:
        """What is still to be told: how many wait, were dropped by a fault, or overflowed."""
        with self._lock:
            self._core.settle(self._read())
            return self._webhooks

    def _next_delivery(self, *, late: bool) -> Delivery | None:
        with self._lock:
            clock = self._last or self.clock
            now = clock.monotonic()
            self._core.settle(now)
            told = self._webhooks.take(inf if late else now)
        if told is None:
            return None
        event, forged, attempt = told
        return delivered(event, self.secret, utc=clock.utc(), now=now, forged=forged, attempt=attempt)

    def _now(self) -> float:
        self._last = self.clock
        return self._last.monotonic()

    def _read(self) -> float:
        """Return the time by the clock of the last request: once a test's clock has ceased to rule, the books stay as they were."""
        return (self._last or self.clock).monotonic()

    def __repr__(self) -> str:
        return f"<FakeProvider {self.name}: {len(self._core.visits)} requests, {len(self._core.bookings)} bookings>"


def _checked(plan: FaultPlan) -> FaultPlan:
    if not isinstance(cast("object", plan), FaultPlan):
        refuse("plan", plan, "a FaultPlan, such as FaultPlan([Fault(kind=FaultKind.HANG, nth=(1,))], seed=7)")
    return plan
