"""How does a crash run go? Everybody starts, customers come, processes die; then everything becomes quiet, and the books are read."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from examples.payment_flow.crash.books import Desk
from examples.payment_flow.crash.customers import come, crowd
from examples.payment_flow.crash.kills import Killer, When, scenes
from examples.payment_flow.crash.stage import SERVICES, Stage
from examples.payment_flow.service.consumers import CONSUMERS, Ledger, metadata_of
from examples.payment_flow.service.payments import NAME, tables
from finresilience.testing.faults import Fault, FaultKind, FaultPlan
from finresilience.testing.provider import FakeProvider

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from examples.payment_flow.crash.books import Books
    from examples.payment_flow.crash.kills import Kill
    from examples.payment_flow.service.home import Home

ACME_TAKES = 0.02  # seconds for a charge, and as many for its answer
QUIET_WITHIN = 15.0  # seconds; what has not ended by then stays open, and the books will say so
KILLERS = ({When.TAKEN, When.CLOSED}, {When.POSTED})  # neither waits for the other's moment
FAULTS = (
    Fault(kind=FaultKind.TIMEOUT_AFTER, operation="charge", nth=(1,), probability=0.03),
    Fault(kind=FaultKind.RESET_AFTER, operation="charge", nth=(1,), probability=0.03),
    Fault(kind=FaultKind.BUSY, operation="charge", nth=(1,), probability=0.03, retry_after=0.05),
    Fault(kind=FaultKind.DECLINE, operation="charge", probability=0.08),
)


@dataclass(frozen=True, slots=True)
class Ended:
    """A crash run: what the books say, and what was done to the services meanwhile."""

    books: Books
    kills: tuple[Kill, ...]
    seconds: float


def crash_run(
    home: Home,
    *,
    seed: int,
    count: int,
    tick: Callable[[], object] = lambda: None,
    services: str = SERVICES,
    kills: Sequence[Kill] | None = None,
    quiet_within: float = QUIET_WITHIN,
) -> Ended:
    """Let `count` customers pay while processes are killed, and return the books.

    Args:
        home: where the services keep their own; what is there is thrown away.
        seed: of customers, faults and kills.
        count: how many customers come.
        tick: called for each customer who has been told.
        services: what is run for each of them, as "module:name".
        kills: whom and when; by default the scenes of this seed.
        quiet_within: how long is waited for what is still on its way.
    """
    home.empty(NAME, tables.outbox.table.metadata).dispose()
    for consumer in CONSUMERS:
        home.empty(consumer.name, metadata_of(consumer)).dispose()
    acme = FakeProvider("acme", FaultPlan(FAULTS, seed=seed), latency=ACME_TAKES)
    customers = crowd(seed, count)
    with acme.serve() as url, closing(Desk(home)) as desk:
        home.announce("acme", url)
        with Stage(home, services) as stage:
            stage.wait()
            began = time.monotonic()
            progress = {When.TAKEN: lambda: len(acme.ledger), When.CLOSED: desk.closed, When.POSTED: lambda: desk.taken(Ledger)}
            plan = scenes(seed, count) if kills is None else kills
            killers = [Killer([kill for kill in plan if kill.when in moments], progress, stage.kill) for moments in KILLERS]
            with killers[0], killers[1]:
                told = asyncio.run(come(customers, lambda: home.address(NAME), tick))
                _wait_until(desk.is_quiet, quiet_within)
            _wait_until(desk.is_quiet, quiet_within)  # whom they have killed at the very end has left something behind
            seconds = time.monotonic() - began
        books = desk.read({customer.order.reference: customer.order for customer in customers}, told, acme.ledger)
    return Ended(books, tuple(kill for killer in killers for kill in killer.done), seconds)


def _wait_until(true: Callable[[], bool], within: float) -> None:
    """Return once it was true twice in a row, or there is no patience left."""
    until, before = time.monotonic() + within, False
    while time.monotonic() < until:
        now = true()
        if now and before:
            return
        before = now
        time.sleep(0.05)
