"""What does a provider know of one payment? What was held, taken and given back, and what an inquiry may see of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from finresilience.testing.provider_words import AUTHORIZE, CAPTURE, CHARGE, DECLINED, PENDING, REFUND, SUCCEEDED, VOID

if TYPE_CHECKING:
    from finresilience.money import Money
    from finresilience.testing.provider_words import Order, Receipt

_RANK: Final = {DECLINED: 0, PENDING: 1, SUCCEEDED: 2}  # of several tries at one operation, the one that moved money is the news


@final
class Fact:
    """One try at one operation, and what inquiries are told of it, from when on."""

    __slots__ = ("_told", "operation")

    def __init__(self, operation: str) -> None:
        self.operation: str = operation
        self._told: list[tuple[float, float, Receipt]] = []

    def say(self, at: float, receipt: Receipt, *, lag: float) -> None:
        """Let inquiries see this, from `lag` seconds after `at` on."""
        self._told.append((at, lag, receipt))

    def seen(self, now: float, *, lag: float) -> Receipt | None:
        """Return what an inquiry sees at `now`, or None; the longer of the two lags counts, that of the line and that of the inquiry."""
        return next((receipt for at, late, receipt in reversed(self._told) if at + max(late, lag) <= now), None)


@final
class Account:
    """One payment: a reference, and what was done under it. References are no keys: a charge that comes twice is taken twice."""

    __slots__ = ("_holds", "_refunded", "_taken", "facts")

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self._holds: list[Money] = []
        self._taken: Money | None = None
        self._refunded: Money | None = None

    def begin(self, order: Order) -> Fact:
        """Write down that something was tried, and return the line."""
        fact = Fact(order.operation)
        self.facts.append(fact)
        return fact

    def seen(self, operation: str, now: float, *, lag: float) -> Receipt | None:
        """Return the best that an inquiry about this operation sees at `now`."""
        told = [receipt for fact in self.facts if fact.operation == operation and (receipt := fact.seen(now, lag=lag)) is not None]
        return max(told, key=lambda receipt: _RANK.get(receipt.result, 0), default=None)

    def objection(self, order: Order) -> str | None:
        """Return why the rules of the trade forbid this, or None."""
        if order.operation in {CHARGE, AUTHORIZE}:
            known = next(iter(self._holds), None) if self._taken is None else self._taken
            return None if known is None or order.amount is None or _same_unit(known, order.amount) else "currency_mismatch"
        there = self._there(order.operation)
        if there is None:
            settled = self._taken is not None and order.operation != REFUND
            return "already_captured" if settled else "not_found"
        if order.amount is None:
            return None if there.is_positive else "nothing_left"
        if not _same_unit(there, order.amount):
            return "currency_mismatch"
        return "amount_too_large" if order.amount > there else None

    def apply(self, order: Order) -> Money | None:
        """Do what was asked, and return how much money moved: None for what only holds or lets go."""
        amount = order.amount
        if amount is None:
            amount = self._there(order.operation)
        if amount is None:  # nothing to do: `objection` has said so
            return None
        match order.operation:
            case "authorize":
                self._holds.append(amount)
                return None
            case "void":
                self._holds.clear()
                return None
            case "refund":
                self._refunded = amount if self._refunded is None else self._refunded + amount
                return amount
            case "capture":
                del self._holds[0]  # what is not taken of a hold is let go
            case _:
                pass
        self._taken = amount if self._taken is None else self._taken + amount
        return amount

    def _there(self, operation: str) -> Money | None:
        """Return how much there is to capture, to void or to refund."""
        if operation in {CAPTURE, VOID}:
            return self._holds[0] if self._holds else None
        if operation == REFUND and self._taken is not None:
            return self._taken if self._refunded is None else self._taken - self._refunded
        return None


def _same_unit(one: Money, other: Money) -> bool:
    return (one.currency, one.exponent) == (other.currency, other.exponent)
