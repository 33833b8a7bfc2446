"""How is it said that an invariant does not hold? Which law, which payment, and what is true of the money."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Final, TypeAlias, final

from finresilience._currencies import Unit
from finresilience._minor_units import notation
from finresilience.testing.history import End, Entry
from finresilience.testing.records import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from finresilience.money import Money
    from finresilience.testing.intents import Intent

Sums: TypeAlias = dict[Unit, int]

_SHOWN: Final = 20
_KEPT: Final = 1_000


@final
@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong.

    Args:
        invariant: the law that does not hold.
        reference: of the payment, or empty where it is about all of them.
        said: what is true of the money, in one line, without keys.
    """

    invariant: str
    reference: str
    said: str


@final
class InvariantError(AssertionError):
    """What callers were told and what moved do not go together.

    Args:
        violations: everything that is wrong; the first 1,000 are kept.
        total: how many there are.

    Attributes:
        violations: what is wrong.
        total: how many there are.
    """

    def __init__(self, violations: Iterable[Violation], total: int | None = None) -> None:
        found = tuple(violations)
        self.violations: tuple[Violation, ...] = found[:_KEPT]
        self.total: int = len(found) if total is None else total
        super().__init__(self.violations, self.total)

    @property
    def references(self) -> frozenset[str]:
        """The payments that it is about."""
        return frozenset(violation.reference for violation in self.violations if violation.reference)

    @property
    def invariants(self) -> frozenset[str]:
        """The laws that do not hold."""
        return frozenset(violation.invariant for violation in self.violations)

    def __str__(self) -> str:
        """Say each thing that is wrong on a line of its own, twenty of them at most."""
        head = "1 thing is wrong with the money:" if self.total == 1 else f"{self.total} things are wrong with the money:"
        lines = [f"  {violation.invariant}: {violation.said}" for violation in self.violations[:_SHOWN]]
        rest = self.total - len(lines)
        return "\n".join([head, *lines, *([f"  ... and {rest} more"] if rest else [])])


# ---------------------------------------------------------------- what is wrong with one intent


def twice(it: Intent) -> str:
    """Say where and under which keys, in number, it moved more than once."""
    times = ", ".join(f"{booking.amount} at {shown(booking.provider)} after {booking.at:g} s" for booking in it.bookings[:5])
    keys = {booking.key for booking in it.bookings}
    how = "without a key" if keys == {None} else "under one key" if len(keys) == 1 else f"under {len(keys)} keys: mint one for each payment"
    return f"it moved {len(it.bookings)} times, {how} ({times}): all but one must go back"


def elsewhere(it: Intent) -> str:
    """Say at which providers it moved."""
    where = " and at ".join(shown(provider) for provider in providers(it))
    return f"it moved at {where}: a call of unknown outcome was sent to another provider"


def strays(places: Mapping[str, set[str]]) -> str:
    """Say which two operations of one payment moved money at different providers only, or nothing."""
    for (one, here), (other, there) in combinations(sorted(places.items()), 2):
        if not here & there:
            at, elsewhere = (" and ".join(map(shown, sorted(names))) for names in (here, there))
            return f"its {one} moved at {at} and its {other} at {elsewhere}: a follow-up goes to the provider that took the payment"
    return ""


def off(it: Intent) -> str:
    """Say how what moved differs from what callers were told, or nothing."""
    really = moved(it)
    promised, doubtful = ([sums([amount]) for amount in amounts if not amount.is_zero] for amounts in (it.promised, it.doubtful))
    if it.told is None:
        return f"nobody asked for it, and {spelt(really)} moved" if really else ""
    if len(promised) > 1:
        return f"callers were told of different amounts: {' and '.join(map(spelt, promised))}; {spelt(really)} moved"
    if not _spoken(it):
        return ""
    if it.told is End.OK:
        due = promised[0] if promised else {}
        return "" if really == due else f"callers were told that {spelt(due)} moved, and {spelt(really)} did"
    if it.told is End.FAIL:
        return f"callers were told that nothing moved, and {spelt(really)} did" if really else ""
    if not really or really in doubtful:
        return ""
    return f"it is in doubt whether {' or '.join(map(spelt, doubtful)) or 'nothing'} moved, and {spelt(really)} did"


def unbalanced(joined: Iterable[Intent]) -> Iterator[str]:
    """Say for each currency in which more or less moved than callers were told and may doubt."""
    spoken = [it for it in joined if _spoken(it)]
    promised = sums(amount for it in spoken if it.told is End.OK for amount in it.promised)
    doubtful = [one for it in spoken if it.told is End.UNKNOWN for one in _one_of_each(it.doubtful)]
    more, less = sums(one for one in doubtful if one.is_positive), sums(one for one in doubtful if one.is_negative)
    really = sums(booking.amount for it in spoken for booking in it.bookings)
    for unit in sorted({*promised, *more, *less, *really}):
        told, up, down, did = (of.get(unit, 0) for of in (promised, more, less, really))
        if not told + down <= did <= told + up:
            said, doubt, true = (_written(minor, unit) for minor in (told, up - down, did))
            yield f"{unit[0]} in all: callers were told of {said}, {doubt} is in doubt, and {true} moved"


def _spoken(it: Intent) -> bool:
    """Return whether everybody said how much; where somebody did not, the other laws watch whether it moved."""
    return all(entry.amount is not None for entry in it.entries)


def _one_of_each(amounts: Iterable[Money]) -> Iterable[Money]:
    """Return, for each currency, the amount that may make the greatest difference: an intent moves one of them at most."""
    held: dict[Unit, Money] = {}
    for amount in amounts:
        unit = (amount.currency, amount.exponent)
        most = held.get(unit)
        held[unit] = amount if most is None or abs(amount) > abs(most) else most
    return held.values()


def doubts(joined: Iterable[Intent], most: int) -> Iterator[str]:
    """Say that more intents are in doubt than may be."""
    open_ones = [it for it in joined if it.told is End.UNKNOWN]
    if len(open_ones) > most:
        more = ", ..." if len(open_ones) > 5 else ""
        yield f"{len(open_ones)} intents are in doubt, {most} at most may be: {', '.join(map(named, open_ones[:5]))}{more}"


def providers(it: Intent) -> list[str]:
    """Return the providers at which it moved, in order."""
    return list(dict.fromkeys(booking.provider for booking in it.bookings))


def moved(it: Intent) -> Sums:
    """Return what moved, in minor units."""
    return sums(booking.amount for booking in it.bookings)


def sums(amounts: Iterable[Money]) -> Sums:
    """Add up in minor units of each currency what is not nought. Not as Money: many large amounts are more than one may be."""
    held: Sums = {}
    for amount in amounts:
        unit = (amount.currency, amount.exponent)
        held[unit] = held.get(unit, 0) + amount.minor_units
    return {unit: minor for unit, minor in held.items() if minor}


def spelt(amounts: Sums) -> str:
    """Say the amounts."""
    return " and ".join(_written(minor, unit) for unit, minor in amounts.items()) or "nothing"


def _written(minor: int, unit: Unit) -> str:
    return f"{notation(minor, unit[1])} {unit[0]}"


def named(of: Intent | Entry) -> str:
    """Say which one it is."""
    return f"{of.operation} {shown(of.reference)}"
