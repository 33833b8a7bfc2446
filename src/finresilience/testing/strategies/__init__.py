"""Strategies for property tests of whoever moves money. They need Hypothesis, and shrink to the plainest case that fails.

    @given(money(min_minor=1), fault_schedules())
    def test_a_payment_is_taken_once(amount: Money, plan: FaultPlan) -> None: ...

`st.from_type(Money)` works as well, and so does `st.builds` of what holds one; the same for `FaultPlan`, `Outcome[int]`, `Verdict`,
`History` and their kin.
"""

from __future__ import annotations

from finresilience.testing.registration import register
from finresilience.testing.strategies._books import Books, Payment, books, histories, payments
from finresilience.testing.strategies._ends import errors, found, outcomes, refusals, unknowns, verdicts
from finresilience.testing.strategies._faults import Delivery, calls, fault_schedules, faults, webhook_deliveries
from finresilience.testing.strategies._keys import (
    AlikeKeys,
    KeyClash,
    alike_keys,
    hostile_keys,
    idempotency_keys,
    references,
    same_key_other_body,
)
from finresilience.testing.strategies._money import currencies, money

__all__ = [
    "AlikeKeys",
    "Books",
    "Delivery",
    "KeyClash",
    "Payment",
    "alike_keys",
    "books",
    "calls",
    "currencies",
    "errors",
    "fault_schedules",
    "faults",
    "found",
    "histories",
    "hostile_keys",
    "idempotency_keys",
    "money",
    "outcomes",
    "payments",
    "references",
    "refusals",
    "register",
    "same_key_other_body",
    "unknowns",
    "verdicts",
    "webhook_deliveries",
]

register()  # once more, for whoever runs from a tree that is not installed, and so has no entry point
