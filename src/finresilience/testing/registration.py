"""How does `st.from_type` know our types? Hypothesis calls `register` by its entry point when it is imported.

This module is apart from the strategies, and imports neither them nor Hypothesis by itself: the entry point runs at the end of
`import hypothesis`, which may have been begun by an import of the strategies, and those are then only half there.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, get_args

if TYPE_CHECKING:
    from collections.abc import Callable

_STRATEGIES: Final = "finresilience.testing.strategies"


def register() -> None:
    """Tell Hypothesis how to make our types. Twice does no harm."""
    from hypothesis import strategies as st

    from finresilience import errors, money, outcome
    from finresilience.testing import faults, history

    plain: dict[type, str] = {
        money.Money: "money",
        faults.Fault: "faults",
        faults.FaultPlan: "fault_schedules",
        faults.Asked: "calls",
        outcome.Verdict: "verdicts",
        history.History: "histories",
        errors.UnknownOutcomeError: "unknowns",
        errors.RefusedError: "refusals",
    }
    for kind, name in plain.items():
        st.register_type_strategy(kind, _made_by(name))
    for ends in (outcome.Ok, outcome.Declined, outcome.Failed, outcome.Unknown, outcome.Refused):
        st.register_type_strategy(ends, _ending(ends))
    st.register_type_strategy(outcome.Found, lambda thing: st.builds(outcome.Found, _values(thing)))
    st.register_type_strategy(outcome.Stale, lambda _: import_module(f"{_STRATEGIES}._ends").stale())
    st.register_type_strategy(history.Booking, lambda _: import_module(f"{_STRATEGIES}._books").bookings())


def _made_by(name: str) -> Callable[[Any], Any]:
    return lambda _: getattr(import_module(_STRATEGIES), name)()


def _ending(kind: Any) -> Callable[[Any], Any]:
    """Return what makes ends of one kind, of whatever type their answer has."""

    def make(thing: Any) -> Any:
        ends = import_module(f"{_STRATEGIES}._ends")
        makers: dict[str, Callable[[], Any]] = {
            "Ok": lambda: ends.oks(_values(thing)),
            "Unknown": lambda: ends.unknowns().map(kind),
            "Refused": lambda: ends.refusals().map(kind),
        }
        return makers.get(kind.__name__, lambda: ends.answered(kind, _values(thing)))()

    return make


def _values(thing: Any) -> Any:
    from hypothesis import strategies as st

    wanted = get_args(thing)
    return st.from_type(wanted[0]) if wanted else st.integers()
