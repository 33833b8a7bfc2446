"""Are the laws of histories and invariants awake? Each is shown a broken one, and must go red."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import Phase, given, settings, strategies as st

from finresilience import UnknownOutcomeError
from finresilience.testing import history, intents, invariants, records, violations
from finresilience.testing.history import End, Entry, History
from finresilience.testing.intents import Intent
from finresilience.testing.strategies import Books, books, money
from tests.laws.sabotage import each_kill, kills
from tests.testing import test_history as told, test_invariants as laws, worlds_to_break as broken
from tests.testing.test_strategies import PATIENT

if TYPE_CHECKING:
    from collections.abc import Callable

Patch = pytest.MonkeyPatch


# ---------------------------------------------------------------- histories that tell something else


def a_cancelled_block_failed(patch: Patch) -> None:
    patch.setattr(history, "_leaves_a_doubt", lambda error: isinstance(error, UnknownOutcomeError))


def groups_are_not_looked_into(patch: Patch) -> None:
    look = history._leaves_a_doubt
    patch.setattr(history, "_leaves_a_doubt", lambda error: not isinstance(error, BaseExceptionGroup) and look(error))


def a_fallback_is_believed(patch: Patch) -> None:
    def outcome(self: History, entry: Entry, outcome: Any, *, done: Any = None) -> None:
        self.end(entry, {"Ok": End.OK, "Unknown": End.UNKNOWN}.get(type(outcome).__name__, End.FAIL))

    patch.setattr(History, "outcome", outcome)


def the_last_word_counts(patch: Patch) -> None:
    patch.setattr(Intent, "told", property(lambda self: self.entries[-1].told if self.entries else None))


def a_full_history_forgets(patch: Patch) -> None:
    invoke = History.invoke

    def forgetful(self: History, *args: Any, **more: Any) -> Entry:
        if len(self.entries) >= self._at_most:
            self.entries.pop(0)
        return invoke(self, *args, **more)

    patch.setattr(History, "invoke", forgetful)


def amounts_are_written_as_numbers(patch: Patch) -> None:
    """As JSON has them in most other languages: doubles."""
    patch.setattr(records, "_units", lambda amount: [str(int(float(amount.minor_units))), amount.currency, amount.exponent])


ENDS = told.test_a_block_ends_as_its_exception_tells


@each_kill(
    (a_cancelled_block_failed, ENDS, KeyboardInterrupt(), End.UNKNOWN),
    (groups_are_not_looked_into, ENDS, ExceptionGroup("one", [told.DOUBT]), End.UNKNOWN),
    (a_fallback_is_believed, told.test_an_outcome_ends_as_its_kind_tells_and_a_fallback_tells_nothing, told.stood_in(1), End.UNKNOWN),
    (the_last_word_counts, told.test_a_second_failure_ends_no_doubt_and_one_success_ends_all, [End.UNKNOWN, End.FAIL], End.UNKNOWN),
    (a_full_history_forgets, told.test_a_history_that_is_full_refuses_the_next_operation_and_forgets_nothing),
    (amounts_are_written_as_numbers, told.test_an_amount_that_no_float_holds_is_written_whole),
)
def test_a_broken_history_is_caught(row: tuple[Any, ...]) -> None:
    kills(*row)


# ---------------------------------------------------------------- invariants that are deaf


def only_the_sums_are_compared(patch: Patch) -> None:
    patch.setattr(invariants, "off", lambda _: "")


def amounts_are_compared_as_floats(patch: Patch) -> None:
    off = violations.off

    def nearly(it: Intent) -> str:
        close = it.promised and all(abs(float(it.promised[0].amount) - float(one.amount.amount)) < 0.011 for one in it.bookings)
        return "" if close and it.bookings else off(it)

    patch.setattr(invariants, "off", nearly)
    patch.setattr(invariants, "unbalanced", lambda _: ())


def currencies_are_ignored(patch: Patch) -> None:
    def colour_blind(it: Intent) -> str:
        due = (*it.promised, *it.doubtful)
        return "" if not due or sum(one.amount.minor_units for one in it.bookings) in {0, due[0].minor_units} else "off"

    patch.setattr(invariants, "off", colour_blind)
    patch.setattr(invariants, "unbalanced", lambda _: ())


def what_nobody_asked_for_is_nobodys_business(patch: Patch) -> None:
    join = intents.intents
    patch.setattr(invariants, "intents", lambda *args, **more: tuple(it for it in join(*args, **more) if it.entries))


def providers_are_looked_at_one_by_one(patch: Patch) -> None:
    patch.setattr(invariants, "providers", lambda it: it.bookings[:1])


def follow_ups_may_go_anywhere(patch: Patch) -> None:
    deaf = tuple(law for law in invariants.STANDING if law is not invariants.no_follow_up_elsewhere)
    patch.setattr(invariants, "STANDING", deaf)


def each_booking_is_an_effect_of_its_own(patch: Patch) -> None:
    twice = invariants.no_double_effect

    def deaf(ledger: Any) -> None:
        twice(dict.fromkeys(ledger), intent=lambda booking: (booking.reference, getattr(booking, "at", 0)))

    patch.setattr(invariants, "STANDING", (deaf, *invariants.STANDING[1:]))


def a_failure_is_always_believed(patch: Patch) -> None:
    deaf = tuple(law for law in invariants.STANDING if law is not invariants.told_failed_but_moved)
    patch.setattr(invariants, "STANDING", deaf)


def a_success_is_always_believed(patch: Patch) -> None:
    deaf = tuple(law for law in invariants.STANDING if law is not invariants.told_ok_but_not_moved)
    patch.setattr(invariants, "STANDING", deaf)


def keys_are_never_compared(patch: Patch) -> None:
    deaf = tuple(law for law in invariants.STANDING if law is not invariants.one_answer_per_key)
    patch.setattr(invariants, "STANDING", deaf)


def a_broken_world_is_noticed(spoil: Callable[..., set[str]]) -> None:
    """The law of test_invariants, for one way to break a world."""
    saboteur = next(saboteur for saboteur in broken.SABOTEURS if saboteur.spoil is spoil)

    @settings(PATIENT, max_examples=60, phases=[Phase.generate])
    @given(both=books(money("USD", min_minor=1), at_least=1, at_most=5), data=st.data())
    def noticed(both: Books, data: st.DataObject) -> None:
        laws.names_what_is_broken(saboteur, both, data.draw)

    noticed()


@each_kill(
    (only_the_sums_are_compared, a_broken_world_is_noticed, broken.half_of_a_doubt_moves),
    (amounts_are_compared_as_floats, a_broken_world_is_noticed, broken.a_minor_unit_is_won),
    (currencies_are_ignored, a_broken_world_is_noticed, broken.it_moves_in_another_currency),
    (what_nobody_asked_for_is_nobodys_business, a_broken_world_is_noticed, broken.money_moves_that_nobody_asked_for),
    (providers_are_looked_at_one_by_one, a_broken_world_is_noticed, broken.it_moves_at_another_provider_too),
    (follow_ups_may_go_anywhere, a_broken_world_is_noticed, broken.it_is_refunded_by_another_provider),
    (each_booking_is_an_effect_of_its_own, a_broken_world_is_noticed, broken.it_moves_twice_at_one_provider),
    (a_failure_is_always_believed, a_broken_world_is_noticed, broken.a_success_is_told_as_a_failure),
    (a_success_is_always_believed, a_broken_world_is_noticed, broken.it_never_moves),
    (keys_are_never_compared, a_broken_world_is_noticed, broken.two_payments_share_a_key),
)
def test_a_deaf_invariant_is_caught(row: tuple[Any, ...]) -> None:
    kills(*row)


def a_watch_that_never_hears(patch: Patch) -> None:
    patch.setattr(History, "_tell", lambda self, entry: None)


@each_kill(
    (a_watch_that_never_hears, laws.test_a_watch_stops_at_the_first_lie),
    (a_watch_that_never_hears, laws.test_a_watch_hears_what_is_found_out_later),
)
def test_a_watch_that_sleeps_is_caught(row: tuple[Any, ...]) -> None:
    kills(*row)
