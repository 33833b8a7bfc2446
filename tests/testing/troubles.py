"""What the tests of chaos share: a bank that knows what it did, and a way to call it in every form."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finresilience import Ok, Outcome, Pipeline
from finresilience.testing import instant
from finresilience.testing.chaos import Chaos, ChaosPermit
from finresilience.testing.faults import Fault, FaultKind, FaultPlan
from tests.laws.worlds import on

if TYPE_CHECKING:
    from collections.abc import Callable

PERMIT = ChaosPermit.in_test("laws of chaos")
FORMS = [f"{loop} {way}" for loop in ("sync", "asyncio", "trio") for way in ("called", "decorated", "alone")]
each_form = pytest.mark.parametrize("form", FORMS)


class Bank:
    """A provider that does what it is asked, and knows what it did."""

    def __init__(self) -> None:
        self.booked: list[str] = []

    def charge(self, payment: str) -> str:
        self.booked.append(payment)
        return f"paid {payment}"

    async def acharge(self, payment: str) -> str:
        await anyio.sleep(0)
        return self.charge(payment)


def plan(kind: FaultKind, **more: Any) -> FaultPlan:
    return FaultPlan([Fault(kind=kind, **more)], seed=7)


def chaos(kind: FaultKind | FaultPlan, *, shows: Any = None, does: Any = None, **more: Any) -> Chaos:
    told = kind if isinstance(kind, FaultPlan) else plan(kind, **more)
    return Chaos(told, permit=PERMIT, listeners=[], shows=shows, does=does)


def piped(trouble: Chaos, *policies: Any, **more: Any) -> Pipeline:
    told: dict[str, Any] = {"reference": lambda payment: payment, "listeners": []} | more
    return Pipeline("acme.charge", *policies, trouble, **told)


def ended(form: str, make: Callable[[], Pipeline | Chaos], bank: Bank, *payments: str) -> tuple[list[Outcome[str]], float]:
    """Make the calls one after another in this form, and return how they ended and how long it took."""
    loop, way = form.split()
    if loop == "sync":
        with instant() as clock:
            guard = make()
            called = guard(bank.charge) if way == "decorated" else bank.charge
            return [guard.outcome(called, payment) for payment in payments], clock.monotonic()

    async def acalls() -> tuple[list[Outcome[str]], float]:
        guard = make()
        called = guard(bank.acharge) if way == "decorated" else bank.acharge
        return [await guard.aoutcome(called, payment) for payment in payments], guard._now()

    answer: tuple[list[Outcome[str]], float] = on(loop, acalls)
    return answer


def one(form: str, trouble: Callable[[], Chaos], bank: Bank) -> tuple[Outcome[str], float]:
    make = trouble if form.endswith("alone") else lambda: piped(trouble())
    outcomes, took = ended(form, make, bank, "pay_1")
    return outcomes[0], took


def error_of(outcome: Outcome[Any]) -> BaseException:
    assert not isinstance(outcome, Ok)
    error = outcome.error
    return error.__cause__ or error
