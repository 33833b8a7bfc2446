"""What may go wrong with a provider, and with what it tells later? Plans and deliveries that shrink to nothing wrong at all."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast, final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from finresilience._checks import positive_count, refuse, seconds_of
from finresilience.testing.faults import Asked, Fault, FaultKind, FaultPlan

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import timedelta

E = TypeVar("E")

OPERATIONS: Final = ("charge", "inquiry", "refund")
_CODES: Final = ("insufficient_funds", "expired_card", "do_not_honor", "try_again_later")
_SECONDS: Final = (5.0, 0.0, 0.5, 1.0, 30.0, 3600.0)
_CHANCES: Final = (1.0, 0.5, 0.9, 0.1, 0.01)  # certain first: a counterexample should not need luck
_WAITS: Final = (1.0, 0.0, 30.0)
_IN_A_ROW: Final = (1, 2, 3)
_WINDOWS: Final = ((0.0, None), (0.0, 1.0), (0.0, 10.0), (1.0, None), (1.0, 2.0), (10.0, 70.0), (60.0, 3660.0))
_SEEDS: Final = 2**32


def faults(
    kinds: Iterable[FaultKind] | None = None, *, operations: Iterable[str] = (), tags: Iterable[str] = (), attempts: int = 5
) -> SearchStrategy[Fault]:
    """One fault: any kind, at any attempt, now or in a window of time, for certain or by chance.

    Args:
        kinds: which; by default all but OK, in the order of `FaultKind`, which is the order in which a counterexample prefers them.
        operations: strikes all, or one of these.
        tags: strikes all calls, or those with one of these tags.
        attempts: the last attempt that a fault may single out.
    """
    return st.builds(
        _fault,
        st.sampled_from(_kinds(kinds)),
        st.integers(0, positive_count("attempts", attempts, most=1000)),
        st.sampled_from(_plain_first(_IN_A_ROW, _WINDOWS, ("", *tags), ("", *operations), _CHANCES)),
        st.sampled_from(_plain_first(_SECONDS, _CODES, _WAITS)),
    )


def fault_schedules(
    kinds: Iterable[FaultKind] | None = None,
    *,
    at_most: int = 5,
    operations: Iterable[str] = (),
    tags: Iterable[str] = (),
    attempts: int = 5,
) -> SearchStrategy[FaultPlan]:
    """Plans of what goes wrong. A failure shrinks towards the plan without faults, and then towards plain faults that strike always.

    Args:
        kinds: which; by default all but OK.
        at_most: how many faults a plan has.
        operations: strikes all, or one of these.
        tags: strikes all calls, or those with one of these tags.
        attempts: the last attempt that a fault may single out.
    """
    most = positive_count("at_most", at_most, least=0, most=1000)
    each = faults(kinds, operations=operations, tags=tags, attempts=attempts)
    return st.builds(FaultPlan, st.lists(each, max_size=most), seed=st.integers(0, _SEEDS - 1))


def calls() -> SearchStrategy[Asked]:
    """One call, as a plan sees it."""
    subjects = st.integers(1, 99).map("pay_{}".format)
    return st.builds(Asked, st.sampled_from(OPERATIONS), subjects, st.integers(1, 9), st.sampled_from((0.0, 0.5, 5.0, 3600.0)))


def _kinds(kinds: Iterable[FaultKind] | None) -> list[FaultKind]:
    wanted: list[object] = [kind for kind in FaultKind if kind is not FaultKind.OK] if kinds is None else list(kinds)
    if not wanted or not all(isinstance(kind, FaultKind) for kind in wanted):
        refuse("kinds", kinds, "at least one FaultKind, such as [FaultKind.TIMEOUT_AFTER]")
    return cast("list[FaultKind]", wanted)


def _plain_first(*choices: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return every combination, those that differ least from the plainest first; the plainest is as frequent as all others together.

    One draw of a combination shrinks better than one draw for each part: a fault of few draws can be taken out of a plan whole.
    """
    ranked = sorted(product(*map(enumerate, choices)), key=lambda one: (sum(rank > 0 for rank, _ in one), [rank for rank, _ in one]))
    combined = [tuple(value for _, value in one) for one in ranked]
    return [combined[0]] * len(combined) + combined


def _fault(kind: FaultKind, first: int, when: tuple[Any, ...], how: tuple[Any, ...]) -> Fault:
    """Make a fault of every attempt, if `first` is nought, or of so many in a row from there on."""
    in_a_row, (since, until), tag, operation, probability = when
    seconds, code, wait = how
    return Fault(
        kind=kind,
        probability=probability,
        nth=tuple(range(first, first + in_a_row)) if first else (),
        since=since,
        until=until,
        tag=tag,
        operation=operation,
        code=code,
        seconds=seconds,
        retry_after=wait,
    )


@final
@dataclass(frozen=True, slots=True)
class Delivery(Generic[E]):
    """One webhook as it arrives.

    Args:
        event: what it tells.
        position: which event of the list it is, 0 for the first.
        at: when it arrives, in seconds after the first event happened.
        copy: 1 for the first that was sent of this event, 2 for a duplicate...; the second may arrive before the first.
    """

    event: E
    position: int
    at: float
    copy: int = 1


def webhook_deliveries(
    events: Sequence[E] | SearchStrategy[Sequence[E]],
    *,
    spacing: float | timedelta = 1.0,
    copies: int = 3,
    drops: bool = True,
    reorders: bool = True,
) -> SearchStrategy[list[Delivery[E]]]:
    """How a list of events may arrive: late, out of order, twice, not at all. A failure shrinks to each once, in order and in time.

    Args:
        events: in the order in which they happen, or a strategy of such lists.
        spacing: seconds between two events.
        copies: how often one event may be told, at most.
        drops: whether one may never be told.
        reorders: whether one may be told so late that others overtake it; any order may come up.
    """
    gap = seconds_of("spacing", spacing)
    most = positive_count("copies", copies, most=100)
    for name, flag in (("drops", drops), ("reorders", reorders)):
        if not isinstance(flag, bool):
            refuse(name, flag, "True or False")
    lists: SearchStrategy[Sequence[E]] = cast("Any", events) if isinstance(events, SearchStrategy) else st.just(events)

    lost = st.sampled_from((False, False, False, True)) if drops else st.just(False)  # one in four, or a long list would never be whole

    def delivered(told: Sequence[E]) -> SearchStrategy[list[Delivery[E]]]:
        late = st.integers(0, 2 * len(told)) if reorders else st.just(0)  # in gaps: twice the length, and any order can come about
        fate = st.tuples(lost, late, st.lists(late, max_size=most - 1))
        return st.tuples(*(fate for _ in told)).map(lambda fates: _arrivals(told, fates, gap))

    return lists.flatmap(delivered)


def _arrivals(told: Sequence[E], fates: Sequence[tuple[bool, int, list[int]]], gap: float) -> list[Delivery[E]]:
    arrivals = [
        Delivery(event, position, (position + late) * gap, copy)
        for position, (event, (lost, first, again)) in enumerate(zip(told, fates, strict=True))
        for copy, late in enumerate(again if lost else [first, *again], start=1)
    ]
    return sorted(arrivals, key=lambda delivery: delivery.at)  # stable: of two that arrive at once, the earlier event is first
