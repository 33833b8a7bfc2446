"""What must hold of the money, whatever went wrong on the way? Each law compares what callers were told with what really moved.

    check(history, provider.ledger)                                           # the laws that hold for everybody
    check(history, provider.ledger, *STANDING, partial(bounded_attempts, at_most=4))

In a Hypothesis state machine, the body of an `@invariant()` is such a line. `watch` checks while a run goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from inspect import Parameter, signature
from typing import Any, Final, TypeAlias

from finresilience._checks import positive_count, refuse
from finresilience.errors import ConfigurationError
from finresilience.testing.history import Booking, End, Entry, History
from finresilience.testing.intents import Intent, Naming, by_key, by_reference, intents
from finresilience.testing.records import shown
from finresilience.testing.violations import (
    InvariantError,
    Violation,
    doubts,
    elsewhere,
    moved,
    named,
    off,
    providers,
    spelt,
    strays,
    sums,
    twice,
    unbalanced,
)

__all__ = [
    "STANDING",
    "bounded_attempts",
    "by_key",
    "by_reference",
    "check",
    "money_conserved",
    "no_double_effect",
    "no_follow_up_elsewhere",
    "no_lost_intent",
    "no_unknown_sent_elsewhere",
    "one_answer_per_key",
    "told_failed_but_moved",
    "told_ok_but_not_moved",
    "watch",
]

Invariant: TypeAlias = Callable[..., object]

_LINE: Final = 200  # characters shown of what a law of yours says


def no_double_effect(ledger: Iterable[Booking], *, intent: Naming = by_reference) -> None:
    """No intent moved money more than once, whatever the ledgers and keys.

    Args:
        ledger: what moved, at one provider or at several.
        intent: what shall happen once; `by_key` if one payment has several refunds or captures.
    """
    _raise("no_double_effect", ((it, twice(it)) for it in _joined(None, ledger, intent) if len(it.bookings) > 1))


def no_unknown_sent_elsewhere(ledger: Iterable[Booking], *, intent: Naming = by_reference) -> None:
    """No intent moved money at two providers: a call whose outcome is unknown is asked about, and never sent to another.

    Args:
        ledger: what moved, at all providers together.
        intent: what shall happen once.
    """
    _raise("no_unknown_sent_elsewhere", ((it, elsewhere(it)) for it in _joined(None, ledger, intent) if len(providers(it)) > 1))


def no_follow_up_elsewhere(ledger: Iterable[Booking]) -> None:
    """What follows a payment moved where the payment did: nobody can capture, refund or void what another provider took.

    Args:
        ledger: what moved, at all providers together.
    """
    places: dict[str, dict[str, set[str]]] = {}
    for booking in _ledger(ledger):
        places.setdefault(booking.reference, {}).setdefault(booking.operation, set()).add(booking.provider)
    said = ((reference, strays(at)) for reference, at in places.items())
    _raise("no_follow_up_elsewhere", (), (Violation("no_follow_up_elsewhere", it, f"{shown(it)}: {why}") for it, why in said if why))


def told_failed_but_moved(history: History, ledger: Iterable[Booking], *, intent: Naming = by_reference) -> None:
    """No money moved of which every caller was told that it surely had not."""
    said = "every caller was told that it failed, and {} moved: whoever pays again pays twice"
    lies = (it for it in _joined(history, ledger, intent) if it.told is End.FAIL and moved(it))
    _raise("told_failed_but_moved", ((it, said.format(spelt(moved(it)))) for it in lies))


def told_ok_but_not_moved(history: History, ledger: Iterable[Booking], *, intent: Naming = by_reference) -> None:
    """No caller was told that money moved while none did. An operation without an amount, such as an inquiry, moves none."""
    said = "a caller was told that {} moved, and nothing did"
    lies = (it for it in _joined(history, ledger, intent) if sums(it.promised) and not moved(it))
    _raise("told_ok_but_not_moved", ((it, said.format(spelt(sums(it.promised)))) for it in lies))


def money_conserved(
    history: History, ledger: Iterable[Booking], *, doubts_at_most: int | None = None, intent: Naming = by_reference
) -> None:
    """What moved is what callers were told, to the minor unit, for each payment and currency; a doubt stands for all or nothing of it.

    Args:
        history: what callers were told.
        ledger: what moved, at all providers together; nothing else may be in it.
        doubts_at_most: how many intents may be left in doubt; any number, if None.
        intent: what shall happen once.
    """
    joined = _joined(history, ledger, intent)
    said_of_all = [*unbalanced(joined)]
    if doubts_at_most is not None:
        said_of_all += doubts(joined, positive_count("doubts_at_most", doubts_at_most, least=0))
    wrong = [Violation("money_conserved", "", said) for said in said_of_all]
    _raise("money_conserved", ((it, said) for it in joined if (said := off(it))), wrong)


def no_lost_intent(history: History, *, open_cases: Iterable[str] = (), accepted: Iterable[str] = ()) -> None:
    """Whatever was accepted has ended, or somebody has an open case of it. Holds at the end of a run.

    Args:
        history: what callers were told.
        open_cases: references of the payments that somebody will look into.
        accepted: references that were promised to a customer, asked for or not.
    """
    known = _strings("open_cases", open_cases)
    promised = _strings("accepted", accepted)
    said = "nobody knows how it ended, and there is no open case of it: open one, or ask the provider"
    lost = (it for it in _joined(history, (), by_reference) if it.told is End.UNKNOWN and it.reference not in known)
    asked = {entry.reference for entry in history}
    dropped = sorted(promised - asked - known, key=ascii)
    never = "it was accepted and never asked for, and there is no open case of it"
    wrong = [Violation("no_lost_intent", reference, f"{shown(reference)}: {never}") for reference in dropped]
    _raise("no_lost_intent", ((it, said) for it in lost), wrong)


def bounded_attempts(history: History, *, at_most: int) -> None:
    """No operation made more than `at_most` attempts, by what `History.attempt` noted."""
    most = positive_count("at_most", at_most)
    wrong = [
        Violation("bounded_attempts", entry.reference, f"{named(entry)}: {entry.attempts} attempts were made, {most} at most may be")
        for entry in _history(history)
        if entry.attempts > most
    ]
    _raise("bounded_attempts", (), wrong)


def one_answer_per_key(history: History) -> None:
    """Nobody was told OK of two different payments, or amounts, under one idempotency key: a key answers for one body."""
    told: dict[Hashable, dict[Hashable, Entry]] = {}
    for entry in _history(history):
        if entry.key is not None and entry.told is End.OK:
            told.setdefault((entry.operation, entry.key), {}).setdefault((entry.reference, entry.amount), entry)
    wrong: list[Violation] = []
    for bodies in told.values():
        first, *others = bodies.values()
        said = f"was told Ok under the key of {named(first)}: its answer may be the other's, and its money may never have moved"
        wrong += [Violation("one_answer_per_key", other.reference, f"{named(other)} {said}") for other in others]
    _raise("one_answer_per_key", (), wrong)


STANDING: Final[tuple[Invariant, ...]] = (
    no_double_effect,
    no_unknown_sent_elsewhere,
    no_follow_up_elsewhere,
    told_failed_but_moved,
    told_ok_but_not_moved,
    money_conserved,
    one_answer_per_key,
)
"""The invariants that need to be told nothing, and hold at every moment of a run."""


def check(history: History, ledger: Iterable[Booking] = (), *invariants: Invariant) -> None:
    """Raise one `InvariantError` for all that is wrong, or return.

    Args:
        history: what callers were told.
        ledger: what moved, at all providers together.
        invariants: functions that are given what they name among `history` and `ledger`, and raise an AssertionError; your own
            too. Give other arguments by `functools.partial`. By default those of `STANDING`.

    Raises:
        InvariantError: with every violation of every invariant.
        ConfigurationError: if an invariant needs an argument that nobody gave.
    """
    known: dict[str, Any] = {"history": _history(history), "ledger": _ledger(ledger)}
    wrong: list[Violation] = []
    more, cause = 0, None
    for invariant in invariants or STANDING:
        wanted = _wanted(invariant)
        try:
            invariant(**{name: known[name] for name in wanted})
        except InvariantError as error:
            wrong += error.violations
            more += error.total - len(error.violations)
        except AssertionError as error:
            said, *_ = [*str(error).splitlines(), "it does not hold"]
            wrong.append(Violation(_called(invariant), "", said[:_LINE]))
            cause = cause or error
    if wrong:
        raise InvariantError(wrong, len(wrong) + more) from cause


@contextmanager
def watch(history: History, ledger: Iterable[Booking] | Callable[[], Iterable[Booking]], *invariants: Invariant) -> Generator[None]:
    """Check after each operation that ends, and raise where the first lie is told; once more at the end, if somebody swallowed it.

    Each check is of one payment: all that the history and the ledger say of the reference that has just ended. It looks through the
    whole ledger for that, so that runs of a million payments are better checked once, at the end.

    Args:
        history: what callers are told, while the block runs.
        ledger: what moves: a ledger that grows, or a function that returns it.
        invariants: as for `check`. They must hold at every moment, as `no_lost_intent` does not.

    Raises:
        InvariantError: at the end of the operation that shows it.
    """
    look = _live(ledger)
    for invariant in invariants:
        _wanted(invariant)
    caught: list[InvariantError] = []

    def ended(entry: Entry) -> None:
        told = history.about(entry.reference)
        booked = [booking for booking in look() if booking.reference == entry.reference]
        try:
            check(told, booked, *invariants)
        except InvariantError as error:
            caught.append(error)
            raise

    with _history(history).listening(ended):
        yield
    if caught:
        raise caught[0]


def _raise(name: str, found: Iterable[tuple[Intent, str]], wrong: Iterable[Violation] = ()) -> None:
    all_wrong = [*wrong, *(Violation(name, it.reference, f"{named(it)}: {said}") for it, said in found)]
    if all_wrong:
        raise InvariantError(all_wrong)


# ---------------------------------------------------------------- arguments


def _joined(history: History | None, ledger: Iterable[Booking], intent: Naming) -> tuple[Intent, ...]:
    told = History() if history is None else _history(history)
    return intents(told, _ledger(ledger), intent=intent)


def _history(history: History) -> History:
    if not isinstance(history, History):
        refuse("history", history, "a History: what callers asked for and were told")
    return history


def _ledger(ledger: Iterable[Booking]) -> tuple[Booking, ...]:
    try:
        booked = tuple(ledger)
    except TypeError:
        refuse("ledger", ledger, "Bookings, such as provider.ledger")
    for booking in booked:
        if not isinstance(booking, Booking):
            refuse("ledger", booking, "Bookings and nothing else; add up the ledgers of several providers")
    return booked


def _live(ledger: Iterable[Booking] | Callable[[], Iterable[Booking]]) -> Callable[[], Iterable[Booking]]:
    fixed = isinstance(ledger, Iterator) or type(ledger).__hash__ not in {None, object.__hash__}  # what hashes by its value never grows
    if isinstance(ledger, Iterable) and fixed:
        refuse("ledger", ledger, "a list that grows, or a function that returns what has moved by now: lambda: provider.ledger")
    if not isinstance(ledger, Iterable) and not callable(ledger):
        refuse("ledger", ledger, "a function that returns what has moved by now: lambda: provider.ledger")

    def look() -> Iterable[Booking]:
        return ledger if isinstance(ledger, Iterable) else ledger()

    return look


def _strings(name: str, values: Iterable[str]) -> set[str]:
    held = {values} if isinstance(values, str) else set(values)
    if isinstance(values, str) or not all(isinstance(value, str) for value in held):
        refuse(name, values, 'references, such as ["pay_1"]')
    return held


def _wanted(invariant: Invariant) -> list[str]:
    """Return which of the two an invariant asks for, or say how to give it the rest."""
    if not callable(invariant):
        refuse("invariants", invariant, "functions, such as no_double_effect")
    bound = invariant.keywords if isinstance(invariant, partial) else {}
    asked = _asked(invariant.func) if isinstance(invariant, partial) and not invariant.args else _asked(invariant)
    wanted: list[str] = []
    for name, needed in asked:
        if name in bound:
            continue
        if name in {"history", "ledger"}:
            wanted.append(name)
        elif needed:
            called = _called(invariant)
            message = f"{called} needs {name!r}, which nobody gave: write functools.partial({called}, {name}=...)"
            raise ConfigurationError(message)
    return wanted


@lru_cache(maxsize=256)  # to look is dearer than to check, and state machines check after every step
def _asked(function: Invariant) -> tuple[tuple[str, bool], ...]:
    """Return the parameters of a function, and which of them must be given."""
    named = [one for one in signature(function).parameters.values() if one.kind not in {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}]
    return tuple((one.name, one.default is Parameter.empty) for one in named)


def _called(invariant: Invariant) -> str:
    function = invariant.func if isinstance(invariant, partial) else invariant
    return getattr(function, "__name__", type(function).__name__)
