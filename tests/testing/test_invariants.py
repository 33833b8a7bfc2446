"""An invariant is silent in an honest world, and names the payment that is wrong in a broken one."""

from __future__ import annotations

import pickle
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from finresilience import ConfigurationError, Money
from finresilience.testing.history import Booking, End, History
from finresilience.testing.intents import by_key, intents
from finresilience.testing.invariants import (
    STANDING,
    Invariant,
    bounded_attempts,
    check,
    money_conserved,
    no_double_effect,
    no_follow_up_elsewhere,
    no_lost_intent,
    no_unknown_sent_elsewhere,
    one_answer_per_key,
    told_failed_but_moved,
    told_ok_but_not_moved,
    watch,
)
from finresilience.testing.provider import FakeProvider
from finresilience.testing.strategies import Books, books, money
from finresilience.testing.violations import InvariantError, Violation
from tests.testing.worlds_to_break import SABOTEURS, Saboteur

if TYPE_CHECKING:
    from collections.abc import Callable

FIVE, TWO = Money("5.00", "USD"), Money("2.00", "USD")
RARE = settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])


def told(*ends: tuple[str, End | None], amount: Money | None = FIVE) -> History:
    """A history of charges that ended so."""
    history = History()
    for reference, end in ends:
        entry = history.invoke("charge", reference, amount, key=f"key of {reference}")
        if end is not None:
            history.end(entry, end)
    return history


def moved(reference: str, amount: Money = FIVE, *, provider: str = "acme", key: str | None = None, operation: str = "charge") -> Booking:
    return Booking(provider, reference, operation, amount, at=1.0, key=key)


def broken(use: Callable[[], object]) -> InvariantError:
    with pytest.raises(InvariantError) as caught:
        use()
    return caught.value


# ---------------------------------------------------------------- honest worlds and broken ones


@given(books())
def test_an_honest_world_breaks_no_law(both: Books) -> None:
    check(both.history, both.ledger)
    doubts = [it.reference for it in intents(both.history, both.ledger) if it.told is End.UNKNOWN]
    no_lost_intent(both.history, open_cases=doubts)
    bounded_attempts(both.history, at_most=4)
    money_conserved(both.history, both.ledger, doubts_at_most=len(doubts))


def names_what_is_broken(saboteur: Saboteur, both: Books, draw: Any) -> None:
    check(both.history, both.ledger)
    touched = saboteur.spoil(both, draw)
    error = broken(lambda: check(both.history, both.ledger))
    assert error.references == touched
    assert error.invariants == saboteur.noticed_by


@pytest.mark.parametrize("saboteur", SABOTEURS, ids=str)
@RARE
@given(both=books(money(st.sampled_from(["USD", "JPY"]), min_minor=1, max_minor=10**17), at_least=1, at_most=6), data=st.data())
def test_a_world_that_is_broken_in_one_place_is_blamed_for_it_by_name(saboteur: Saboteur, both: Books, data: st.DataObject) -> None:
    names_what_is_broken(saboteur, both, data.draw)


@given(both=books(), data=st.data())
def test_the_order_of_the_ledger_changes_nothing(both: Books, data: st.DataObject) -> None:
    check(both.history, data.draw(st.permutations(both.ledger)))


@given(both=books())
def test_a_world_that_was_written_down_is_judged_alike(both: Books) -> None:
    both.ledger.extend(both.ledger[:1])
    try:
        check(both.history, both.ledger)
        said = ""
    except InvariantError as error:
        said = str(error)
    assert bool(said) is bool(both.ledger)
    again = History.from_json(both.history.to_json())
    try:
        check(again, both.ledger)
    except InvariantError as error:
        assert str(error) == said


# ---------------------------------------------------------------- each law alone


def test_two_bookings_of_one_intent_are_a_double_effect_under_any_keys() -> None:
    twice = [moved("pay_1", key="a"), moved("pay_1", key="b"), moved("pay_2")]
    error = broken(lambda: no_double_effect(twice))
    assert error.references == {"pay_1"}
    assert "mint one for each payment" in str(error)
    assert "under one key" in str(broken(lambda: no_double_effect([moved("pay_1", key="a")] * 2)))
    assert "without a key" in str(broken(lambda: no_double_effect([moved("pay_1")] * 2)))


def test_a_charge_and_its_refund_are_two_intents() -> None:
    no_double_effect([moved("pay_1"), moved("pay_1", operation="refund")])


def test_two_refunds_are_two_intents_if_their_keys_say_so() -> None:
    ledger = [moved("pay_1", TWO, operation="refund", key=key) for key in ("r1", "r2")]
    no_double_effect(ledger, intent=by_key)
    assert broken(lambda: no_double_effect(ledger)).references == {"pay_1"}


def test_one_payment_at_two_providers_was_sent_elsewhere() -> None:
    ledger = [moved("pay_1"), moved("pay_1", provider="globex"), moved("pay_2", provider="globex")]
    error = broken(lambda: no_unknown_sent_elsewhere(ledger))
    assert error.references == {"pay_1"}
    assert "'acme' and at 'globex'" in str(error)
    no_unknown_sent_elsewhere([moved("pay_1"), moved("pay_1")])  # twice at one provider is another law's business


def test_a_follow_up_at_another_provider_than_its_payment_is_caught() -> None:
    ledger = [moved("pay_1"), moved("pay_1", operation="capture", provider="globex"), moved("pay_2"), moved("pay_2", operation="refund")]
    error = broken(lambda: no_follow_up_elsewhere(ledger))
    assert error.references == {"pay_1"}
    assert "its capture moved at 'globex' and its charge at 'acme'" in str(error)
    no_follow_up_elsewhere([moved("pay_1"), moved("pay_1", provider="globex"), moved("pay_1", operation="refund", provider="globex")])


def test_a_doubt_and_a_failure_are_no_lie_and_a_failure_alone_is() -> None:
    told_failed_but_moved(told(("pay_1", End.UNKNOWN), ("pay_1", End.FAIL)), [moved("pay_1")])
    error = broken(lambda: told_failed_but_moved(told(("pay_1", End.FAIL), ("pay_1", End.FAIL)), [moved("pay_1")]))
    assert "5.00 USD moved" in str(error)


def test_an_inquiry_that_is_ok_moves_nothing() -> None:
    told_ok_but_not_moved(told(("pay_1", End.OK), amount=None), [])
    assert broken(lambda: told_ok_but_not_moved(told(("pay_1", End.OK)), [])).references == {"pay_1"}


@pytest.mark.parametrize("end", [End.OK, End.UNKNOWN, None])
def test_a_payment_that_is_asked_for_again_moves_once(end: End | None) -> None:
    check(told(("pay_1", End.UNKNOWN), ("pay_1", end)), [moved("pay_1")])


def test_two_successes_of_different_amounts_contradict_each_other() -> None:
    history = told(("pay_1", End.OK))
    history.end(history.invoke("charge", "pay_1", TWO), End.OK)
    assert "different amounts: 5.00 USD and 2.00 USD" in str(broken(lambda: money_conserved(history, [moved("pay_1")])))


def test_a_doubt_over_two_amounts_stands_for_one_of_them() -> None:
    history = told(("pay_1", None))
    history.invoke("charge", "pay_1", TWO)
    money_conserved(history, [])
    money_conserved(history, [moved("pay_1", TWO)])
    money_conserved(history, [moved("pay_1", FIVE)])
    assert broken(lambda: money_conserved(history, [moved("pay_1", Money("7.00", "USD"))])).references == {"pay_1"}


def test_doubts_in_both_directions_do_not_hide_each_other() -> None:
    history = told(("pay_1", None))
    history.invoke("charge", "pay_2", -FIVE)
    for ledger in ([], [moved("pay_1")], [moved("pay_2", -FIVE)], [moved("pay_1"), moved("pay_2", -FIVE)]):
        money_conserved(history, ledger)


def test_nothing_may_move_as_nothing() -> None:
    nought = Money("0.00", "USD")
    check(told(("pay_1", End.OK), amount=nought), [])
    check(told(("pay_1", End.OK), amount=nought), [moved("pay_1", nought)])
    check(told(("pay_1", End.FAIL)), [moved("pay_1", nought)])
    assert broken(lambda: told_ok_but_not_moved(told(("pay_1", End.OK)), [moved("pay_1", nought)])).references == {"pay_1"}


def test_an_amount_that_nobody_told_is_not_compared_but_the_rest_is() -> None:
    unsaid = told(("pay_1", End.OK), amount=None)
    money_conserved(unsaid, [moved("pay_1")])
    assert broken(lambda: check(unsaid, [moved("pay_1"), moved("pay_1")])).invariants == {"no_double_effect"}


def test_the_sums_are_told_by_currency() -> None:
    history = told(("pay_1", End.OK), ("pay_2", End.UNKNOWN))
    error = broken(lambda: money_conserved(history, [moved("pay_1"), moved("pay_3", Money("30", "JPY")), moved("pay_4", FIVE * 2)]))
    assert "JPY in all: callers were told of 0 JPY, 0 JPY is in doubt, and 30 JPY moved" in str(error)
    assert "USD in all: callers were told of 5.00 USD, 5.00 USD is in doubt, and 15.00 USD moved" in str(error)


def test_many_of_the_largest_amounts_can_be_added_up() -> None:
    vast = Money.minor(10**38 - 1, "USD")
    ends = [(f"pay_{number}", End.OK) for number in range(3)]
    check(told(*ends, amount=vast), [moved(reference, vast) for reference, _ in ends])
    error = broken(lambda: check(told(ends[0], amount=vast), [moved("pay_0", vast), moved("pay_0", vast)]))
    assert "1999999999999999999999999999999999999.98 USD moved" in str(error)


def test_doubts_are_bounded() -> None:
    history = told(("pay_1", End.UNKNOWN), ("pay_2", None), ("pay_3", End.OK))
    money_conserved(history, [moved("pay_3")], doubts_at_most=2)
    error = broken(lambda: money_conserved(history, [moved("pay_3")], doubts_at_most=1))
    assert "2 intents are in doubt, 1 at most may be: charge 'pay_1', charge 'pay_2'" in str(error)


def test_an_intent_in_doubt_is_lost_without_a_case() -> None:
    history = told(("pay_1", End.UNKNOWN), ("pay_2", None), ("pay_3", End.FAIL))
    no_lost_intent(history, open_cases=["pay_1", "pay_2"])
    assert broken(lambda: no_lost_intent(history, open_cases={"pay_2"})).references == {"pay_1"}
    assert broken(lambda: no_lost_intent(history)).references == {"pay_1", "pay_2"}


def test_an_intent_whose_end_was_found_out_is_not_lost() -> None:
    history = told(("pay_1", End.UNKNOWN))
    history.resolve(history.entries[0], End.OK)
    no_lost_intent(history)
    check(history, [moved("pay_1")])


def test_what_was_accepted_and_never_asked_for_is_lost() -> None:
    history = told(("pay_1", End.OK))
    no_lost_intent(history, accepted=["pay_1"])
    no_lost_intent(history, accepted=["pay_2"], open_cases=["pay_2"])
    assert broken(lambda: no_lost_intent(history, accepted=["pay_1", "pay_2"])).references == {"pay_2"}


def test_attempts_are_bounded_for_each_operation() -> None:
    history = told(("pay_1", End.OK), ("pay_2", End.OK))
    for _ in range(3):
        history.attempt(history.entries[1])
    bounded_attempts(history, at_most=3)
    error = broken(lambda: bounded_attempts(history, at_most=2))
    assert str(error).endswith("bounded_attempts: charge 'pay_2': 3 attempts were made, 2 at most may be")


def test_a_key_answers_for_one_body() -> None:
    history = History()
    for reference, amount in (("pay_1", FIVE), ("pay_1", FIVE), ("pay_2", FIVE)):
        history.end(history.invoke("charge", reference, amount, key="secret"), End.OK)
    error = broken(lambda: one_answer_per_key(history))
    assert error.references == {"pay_2"}
    assert "secret" not in str(error)


def test_a_key_may_fail_for_one_payment_and_answer_for_another_and_serve_two_operations() -> None:
    history = History()
    history.end(history.invoke("charge", "pay_1", FIVE, key="one"), End.OK)
    history.end(history.invoke("charge", "pay_2", FIVE, key="one"), End.FAIL)
    history.end(history.invoke("charge", "pay_3", FIVE, key="one"), End.UNKNOWN)
    history.end(history.invoke("refund", "pay_1", TWO, key="one"), End.OK)
    one_answer_per_key(history)


# ---------------------------------------------------------------- all together


def test_a_check_reports_everything_at_once() -> None:
    history = told(("pay_1", End.OK), ("pay_2", End.FAIL), ("pay_3", End.OK))
    astray = moved("pay_2", operation="refund", provider="globex")
    error = broken(lambda: check(history, [moved("pay_2"), astray, moved("pay_3"), moved("pay_3", provider="globex")]))
    assert error.references == {"pay_1", "pay_2", "pay_3"}
    assert error.invariants == {law.__name__ for law in STANDING} - {"one_answer_per_key"}


def test_a_check_takes_other_arguments_by_partial_and_laws_of_your_own() -> None:
    history = told(("pay_1", End.UNKNOWN))

    def nobody_pays_globex(ledger: Any) -> None:
        assert all(booking.provider != "globex" for booking in ledger), "globex was paid"

    mine: list[Invariant] = [
        nobody_pays_globex,
        partial(no_lost_intent, open_cases=["pay_1"]),
        partial(bounded_attempts, at_most=1),
        lambda: None,
    ]
    check(history, [], *mine)
    error = broken(lambda: check(history, [moved("pay_1", provider="globex")], *STANDING, *mine))
    assert error.violations == (Violation("nobody_pays_globex", "", "globex was paid"),)
    assert "globex was paid" in str(error.__cause__)


def test_a_ledger_that_can_be_read_once_is_enough() -> None:
    check(told(("pay_1", End.OK)), iter([moved("pay_1")]))
    assert broken(lambda: check(told(("pay_1", End.OK)), (moved("pay_1") for _ in range(2)))).references == {"pay_1"}


def test_an_argument_that_nobody_gave_is_asked_for() -> None:
    with pytest.raises(ConfigurationError, match=r"functools\.partial\(bounded_attempts, at_most=\.\.\.\)"):
        check(History(), [], bounded_attempts)


def test_a_message_is_bounded_and_counts_the_rest() -> None:
    error = broken(lambda: no_double_effect([moved(f"pay_{number // 2}") for number in range(5_000)]))
    assert (error.total, len(error.violations)) == (2_500, 1_000)
    assert str(error).startswith("2500 things are wrong with the money:")
    assert str(error).endswith("... and 2480 more")
    assert len(str(error).splitlines()) == 22
    assert broken(lambda: check(History(), [moved(f"pay_{number // 2}") for number in range(5_000)], no_double_effect)).total == 2_500


def test_a_message_shows_no_key_and_stays_on_its_lines() -> None:
    hostile = "pay\r\n\u202e" + "x" * 300
    error = broken(lambda: check(told((hostile, End.FAIL)), [moved(hostile, key="secret_1"), moved(hostile, key="secret_2")]))
    assert "secret" not in str(error)
    assert str(error).isascii()
    assert all(len(line) < 400 for line in str(error).splitlines())
    assert len(str(error).splitlines()) == 1 + len(error.violations)


def test_the_error_survives_a_process_pool() -> None:
    error = broken(lambda: no_double_effect([moved("pay_1"), moved("pay_1")]))
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.violations, again.total) == (str(error), error.violations, error.total)


def refused(name: str, use: Callable[[], object]) -> None:
    with pytest.raises(ConfigurationError, match=name):
        use()


def test_bad_arguments_are_refused_by_name() -> None:
    wrong: Any = [("pay_1", FIVE)]
    refused("ledger", lambda: no_double_effect(wrong))
    refused("ledger", lambda: check(History(), wrong[0][1]))
    refused("history", lambda: check(wrong, []))
    refused("history", lambda: bounded_attempts(wrong, at_most=1))
    refused("at_most", lambda: bounded_attempts(History(), at_most=0))
    refused("doubts_at_most", lambda: money_conserved(History(), [], doubts_at_most=-1))
    refused("open_cases", lambda: no_lost_intent(History(), open_cases="pay_1"))
    refused("accepted", lambda: no_lost_intent(History(), accepted=wrong))
    refused("invariants", lambda: check(History(), [], wrong))


# ---------------------------------------------------------------- while a run goes on


def test_a_watch_stops_at_the_first_lie() -> None:
    history, ledger = History(), list[Booking]()
    reached = False
    with pytest.raises(InvariantError) as caught, watch(history, ledger):
        with history.call("charge", "pay_1", FIVE):
            ledger.append(moved("pay_1"))
        with history.call("charge", "pay_2", FIVE):
            pass  # told that it moved
        reached = True
    assert caught.value.references == {"pay_2"}
    assert not reached


def test_a_lie_that_is_swallowed_is_told_at_the_end() -> None:
    history, ledger = History(), list[Booking]()
    error = broken(lambda: swallow(history, ledger))
    assert error.references == {"pay_1"}


def swallow(history: History, ledger: list[Booking]) -> None:
    with watch(history, lambda: tuple(ledger), no_double_effect, told_ok_but_not_moved):
        try:
            with history.call("charge", "pay_1", FIVE):
                pass
        except AssertionError:
            ledger.append(moved("pay_1"))


def test_a_watch_hears_what_is_found_out_later() -> None:
    history, ledger = History(), [moved("pay_1")]
    entry = history.invoke("charge", "pay_1", FIVE)
    with pytest.raises(InvariantError, match="told_failed_but_moved"), watch(history, ledger):
        history.end(entry, End.UNKNOWN)
        history.resolve(entry, End.FAIL)


def test_a_watch_ends_with_its_block() -> None:
    history = History()
    with watch(history, list[Booking]()):
        pass
    history.end(history.invoke("charge", "pay_1", FIVE), End.OK)


def test_a_watch_looks_at_the_payment_that_ends_and_at_no_other() -> None:
    history, ledger = told(("pay_1", End.OK)), [moved("pay_2")]
    with watch(history, ledger):
        history.end(history.invoke("charge", "pay_2", FIVE), End.OK)


def test_a_watch_refuses_a_ledger_that_cannot_grow_and_a_law_it_cannot_ask() -> None:
    fixed: list[Any] = [(), iter([]), frozenset(), FakeProvider().ledger, 7]
    for ledger in fixed:
        refused("ledger", partial(watch(History(), ledger).__enter__))
    refused("at_most", lambda: watch(History(), [], bounded_attempts).__enter__())
    nobody: Any = None
    refused("history", lambda: watch(nobody, []).__enter__())
