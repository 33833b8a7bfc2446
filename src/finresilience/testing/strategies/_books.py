"""What does an honest world look like? Payments, histories of them, and the ledgers that such histories go with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from hypothesis import strategies as st

from finresilience._checks import positive_count
from finresilience.money import Money  # noqa: TC001 - `st.builds(Payment)` looks its annotations up
from finresilience.testing.history import Booking, End, History
from finresilience.testing.strategies._money import money

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypothesis.strategies import SearchStrategy

PROVIDERS: Final = ("acme", "globex")
_MOST: Final = 10**18  # minor units: more than any float can count


@final
@dataclass(frozen=True, slots=True)
class Payment:
    """What somebody wants to pay.

    Args:
        reference: its own name.
        amount: more than nothing.
        key: the idempotency key: minted once for it.
    """

    reference: str
    amount: Money
    key: str


def payments(amounts: SearchStrategy[Money] | None = None, *, at_most: int = 10) -> SearchStrategy[list[Payment]]:
    """Lists of payments, each with a reference and a key of its own.

    Args:
        amounts: by default any that are more than nothing, in any currency; ten thousand of them can still be added up.
        at_most: how many.
    """
    most = positive_count("at_most", at_most, least=0, most=10_000)
    lists = st.lists(money(min_minor=1, max_minor=_MOST) if amounts is None else amounts, max_size=most)
    return lists.map(lambda each: [Payment(f"pay_{number}", amount, f"key_{number}") for number, amount in enumerate(each, start=1)])


@final
@dataclass(frozen=True, slots=True)
class Books:
    """What callers were told, and what moved.

    Args:
        history: what callers asked for and were told.
        ledger: what moved, at all providers.
    """

    history: History
    ledger: list[Booking]


@final
@dataclass(frozen=True, slots=True)
class _Course:
    """The course that one payment takes: how it ended, whether money moved though nobody said so, how often it was asked for again."""

    amount: Money
    end: End
    moved: bool
    under_way: bool
    again: int
    attempts: int
    provider: str


def books(
    amounts: SearchStrategy[Money] | None = None, *, at_least: int = 0, at_most: int = 8, doubts: bool = True
) -> SearchStrategy[Books]:
    """Honest worlds: every law of `testing.invariants` holds in them. Break one in one place to see whether a law of yours is awake.

    Args:
        amounts: by default any that are more than nothing, in any currency.
        at_least: how many payments, at least.
        at_most: how many, at most.
        doubts: whether some may end unknown, or be under way; their money may have moved.
    """
    least = positive_count("at_least", at_least, least=0, most=10_000)
    most = positive_count("at_most", at_most, least=least, most=10_000)
    ends = [end for end in End if doubts or end is not End.UNKNOWN]
    course = st.builds(
        _Course,
        money(min_minor=1, max_minor=_MOST) if amounts is None else amounts,
        st.sampled_from(ends),
        moved=st.booleans(),
        under_way=st.booleans(),
        again=st.sampled_from((0, 0, 0, 1, 2)),
        attempts=st.integers(1, 4),
        provider=st.sampled_from(PROVIDERS),
    )
    return st.lists(course, min_size=least, max_size=most).map(_happened)


def bookings() -> SearchStrategy[Booking]:
    """Lines of a ledger."""
    names, times = st.integers(1, 99).map("pay_{}".format), st.sampled_from((0.0, 1.0, 3600.0))
    return st.builds(Booking, st.sampled_from(PROVIDERS), names, st.sampled_from(("charge", "refund")), money(min_minor=1), at=times)


def histories(*, at_most: int = 8) -> SearchStrategy[History]:
    """Histories of payments, some of them in doubt."""
    return books(at_most=at_most).map(lambda both: both.history)


def _happened(courses: Sequence[_Course]) -> Books:
    now = 0.0
    history, ledger = History(lambda: now), list[Booking]()
    for number, course in enumerate(courses, start=1):
        reference, key = f"pay_{number}", f"key_{number}"
        for ask in range(1 + course.again):
            now += 1.0
            entry = history.invoke("charge", reference, course.amount, key=key)
            entry.attempts = course.attempts
            now += 1.0
            if not ask and (course.end is End.OK or (course.end is End.UNKNOWN and course.moved)):
                ledger.append(Booking(course.provider, reference, "charge", course.amount, at=now, key=key))
            if not (course.end is End.UNKNOWN and course.under_way):
                history.end(entry, course.end)
    return Books(history, ledger)
