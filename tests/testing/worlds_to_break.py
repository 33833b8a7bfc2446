"""Ways to break an honest world in one place, and who must notice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hypothesis import assume, strategies as st

from finresilience import Money
from finresilience.testing.history import Booking, End, Entry
from finresilience.testing.intents import Intent, intents

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.testing.strategies import Books

MONEY, TWICE, ELSEWHERE = "money_conserved", "no_double_effect", "no_unknown_sent_elsewhere"
FOLLOWS = "no_follow_up_elsewhere"
FAILED, OK, KEY = "told_failed_but_moved", "told_ok_but_not_moved", "one_answer_per_key"

Draw = Any  # draws an example of a strategy


@dataclass(frozen=True)
class Saboteur:
    """Breaks one thing, and says which payments it touched."""

    spoil: Callable[[Books, Draw], set[str]]
    noticed_by: set[str]

    def __str__(self) -> str:
        return self.spoil.__name__


def victim(both: Books, draw: Draw, wanted: Callable[[Intent], object]) -> Intent:
    """Choose one intent of the world that can be broken so."""
    fit = [it for it in intents(both.history, both.ledger) if wanted(it)]
    assume(fit)
    chosen: int = draw(st.integers(0, len(fit) - 1))
    return fit[chosen]


def booked(it: Intent) -> bool:
    return bool(it.bookings)


def first(it: Intent) -> Entry:
    return it.entries[0]


def amount_of(it: Intent) -> Money:
    amount = first(it).amount
    assert amount is not None
    return amount


def other(provider: str) -> str:
    return "globex" if provider == "acme" else "acme"


def book(both: Books, it: Intent, amount: Money | None = None, provider: str = "acme") -> set[str]:
    both.ledger.append(Booking(provider, it.reference, it.operation, amount_of(it) if amount is None else amount, at=1e6))
    return {it.reference}


def rebook(both: Books, it: Intent, **change: Any) -> set[str]:
    at = both.ledger.index(it.bookings[0])
    both.ledger[at] = replace(both.ledger[at], **change)
    return {it.reference}


# ---------------------------------------------------------------- the money


def it_moves_twice_at_one_provider(both: Books, draw: Draw) -> set[str]:
    it = victim(both, draw, booked)
    return book(both, it, provider=it.bookings[0].provider)


def it_moves_at_another_provider_too(both: Books, draw: Draw) -> set[str]:
    it = victim(both, draw, booked)
    return book(both, it, provider=other(it.bookings[0].provider))


def it_is_refunded_by_another_provider(both: Books, draw: Draw) -> set[str]:
    it = victim(both, draw, booked)
    both.history.end(both.history.invoke("refund", it.reference, amount_of(it)), End.OK)
    both.ledger.append(Booking(other(it.bookings[0].provider), it.reference, "refund", amount_of(it), at=1e6))
    return {it.reference}


def it_never_moves(both: Books, draw: Draw) -> set[str]:
    it = victim(both, draw, lambda it: it.told is End.OK)
    both.ledger.remove(it.bookings[0])
    return {it.reference}


def it_moves_though_it_failed(both: Books, draw: Draw) -> set[str]:
    return book(both, victim(both, draw, lambda it: it.told is End.FAIL))


def a_minor_unit_is_lost(both: Books, draw: Draw) -> set[str]:
    it = victim(both, draw, lambda it: it.bookings and amount_of(it).minor_units > 1)
    return rebook(both, it, amount=Money.minor(amount_of(it).minor_units - 1, amount_of(it).currency))


def a_minor_unit_is_won(both: Books, draw: Draw) -> set[str]:
    it = victim(both, draw, booked)
    return rebook(both, it, amount=Money.minor(amount_of(it).minor_units + 1, amount_of(it).currency))


def it_moves_a_hundredfold(both: Books, draw: Draw) -> set[str]:
    it = victim(both, draw, booked)
    return rebook(both, it, amount=amount_of(it) * 100)


def it_moves_in_another_currency(both: Books, draw: Draw) -> set[str]:
    it = victim(both, draw, booked)
    code = "EUR" if amount_of(it).currency != "EUR" else "USD"
    return rebook(both, it, amount=Money.minor(amount_of(it).minor_units, code))


def two_amounts_change_places(both: Books, draw: Draw) -> set[str]:
    """The sums still conserve."""
    it = victim(both, draw, booked)
    that = victim(both, draw, lambda that: that.bookings and that.reference != it.reference)
    assume(amount_of(it).currency == amount_of(that).currency and amount_of(it) != amount_of(that))
    rebook(both, it, amount=amount_of(that))
    rebook(both, that, amount=amount_of(it))
    return {it.reference, that.reference}


def money_moves_that_nobody_asked_for(both: Books, draw: Draw) -> set[str]:
    both.ledger.append(Booking("acme", "ghost", "charge", Money("1.00", "USD")))
    return {"ghost"}


def half_of_a_doubt_moves(both: Books, draw: Draw) -> set[str]:
    it = victim(both, draw, lambda it: it.told is End.UNKNOWN and not it.bookings and amount_of(it).minor_units > 1)
    return book(both, it, amount=Money.minor(amount_of(it).minor_units // 2, amount_of(it).currency))


# ---------------------------------------------------------------- what callers are told


def end_as(it: Intent, end: End) -> set[str]:
    for entry in it.entries:
        entry.end = end
    return {it.reference}


def a_success_is_told_as_a_failure(both: Books, draw: Draw) -> set[str]:
    return end_as(victim(both, draw, lambda it: it.told is End.OK), End.FAIL)


def a_failure_is_told_as_a_success(both: Books, draw: Draw) -> set[str]:
    return end_as(victim(both, draw, lambda it: it.told is End.FAIL), End.OK)


def a_doubt_that_moved_is_told_as_a_failure(both: Books, draw: Draw) -> set[str]:
    return end_as(victim(both, draw, lambda it: it.told is End.UNKNOWN and it.bookings), End.FAIL)


def a_doubt_that_did_not_move_is_told_as_a_success(both: Books, draw: Draw) -> set[str]:
    return end_as(victim(both, draw, lambda it: it.told is End.UNKNOWN and not it.bookings), End.OK)


def two_payments_share_a_key(both: Books, draw: Draw) -> set[str]:
    it = victim(both, draw, lambda it: it.told is End.OK)
    that = victim(both, draw, lambda that: that.told is End.OK and that.reference != it.reference)
    for entry in that.entries:
        entry.key = first(it).key
    return {max((it, that), key=lambda one: first(one).number).reference}  # the later one was answered with the other's answer


SABOTEURS = [
    Saboteur(it_moves_twice_at_one_provider, {TWICE, MONEY}),
    Saboteur(it_moves_at_another_provider_too, {TWICE, ELSEWHERE, MONEY}),
    Saboteur(it_is_refunded_by_another_provider, {FOLLOWS}),
    Saboteur(it_never_moves, {OK, MONEY}),
    Saboteur(it_moves_though_it_failed, {FAILED, MONEY}),
    Saboteur(a_minor_unit_is_lost, {MONEY}),
    Saboteur(a_minor_unit_is_won, {MONEY}),
    Saboteur(it_moves_a_hundredfold, {MONEY}),
    Saboteur(it_moves_in_another_currency, {MONEY}),
    Saboteur(two_amounts_change_places, {MONEY}),
    Saboteur(money_moves_that_nobody_asked_for, {MONEY}),
    Saboteur(half_of_a_doubt_moves, {MONEY}),
    Saboteur(a_success_is_told_as_a_failure, {FAILED, MONEY}),
    Saboteur(a_failure_is_told_as_a_success, {OK, MONEY}),
    Saboteur(a_doubt_that_moved_is_told_as_a_failure, {FAILED, MONEY}),
    Saboteur(a_doubt_that_did_not_move_is_told_as_a_success, {OK, MONEY}),
    Saboteur(two_payments_share_a_key, {KEY}),
]
