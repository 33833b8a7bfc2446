"""A strategy makes what it says and nothing else, makes the rare too, and shrinks to what a reader would write by hand."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings, strategies as st

from finresilience import (
    RETRYABLE,
    ConfigurationError,
    Declined,
    Failed,
    Found,
    Money,
    Ok,
    Outcome,
    Refused,
    RefusedError,
    Unknown,
    UnknownOutcomeError,
    Verdict,
    idempotency_key,
)
from finresilience._iso4217 import EXPONENTS
from finresilience.context import checked_key, derive_key
from finresilience.testing import strategies as ours
from finresilience.testing.faults import Asked, Fault, FaultKind, FaultPlan
from finresilience.testing.history import Booking, End, History
from finresilience.testing.strategies import AlikeKeys, Books, Delivery, Payment, _faults

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

EVERY_HEALTH_CHECK: Any = HealthCheck  # a collection of itself, by a metaclass that type checkers cannot read
PATIENT = settings(
    database=None,
    max_examples=2_000,
    derandomize=True,
    report_multiple_bugs=False,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[*EVERY_HEALTH_CHECK],
)


def smallest(strategy: st.SearchStrategy[Any], wanted: Callable[[Any], object] = lambda _: True) -> Any:
    """What a failure of this kind is shown as."""
    return find(strategy, lambda example: bool(wanted(example)), settings=PATIENT)


def drawn(strategy: st.SearchStrategy[Any], count: int) -> list[Any]:
    """So many examples, the same ones each time."""
    seen: list[Any] = []

    @settings(max_examples=count, database=None, derandomize=True, phases=[Phase.generate], suppress_health_check=[*EVERY_HEALTH_CHECK])
    @given(strategy)
    def collect(example: Any) -> None:
        seen.append(example)

    collect()
    return seen


def bad(value: Any) -> Any:
    """A value that a type checker would not let through."""
    return value


def refuses(name: str, make: Callable[[], Any]) -> None:
    with pytest.raises(ConfigurationError, match=name):
        make()


# ---------------------------------------------------------------- money


@given(ours.currencies())
def test_every_currency_is_one_of_iso_4217(code: str) -> None:
    assert code in EXPONENTS


def test_currencies_of_each_number_of_decimals_come_up_about_as_often() -> None:
    counts = Counter(amount.exponent for amount in drawn(ours.money(), 400))
    assert set(counts) == {0, 2, 3, 4}
    assert min(counts.values()) > 60


@given(ours.currencies(exponents=(0, 3)))
def test_currencies_can_be_asked_for_by_their_decimals(code: str) -> None:
    assert EXPONENTS[code] in {0, 3}


@given(st.data(), st.integers(-(10**9), 10**9), st.integers(0, 10**9))
def test_money_keeps_its_bounds(data: st.DataObject, least: int, width: int) -> None:
    amount = data.draw(ours.money(min_minor=least, max_minor=least + width))
    assert least <= amount.minor_units <= least + width


@given(ours.money(min_value=Money("1.00", "EUR"), max_value=Money("3.00", "EUR")))
def test_money_between_two_amounts_is_of_their_currency(amount: Money) -> None:
    assert Money("1.00", "EUR") <= amount <= Money("3.00", "EUR")


@given(ours.money(ours.currencies(exponents=[3]), min_minor=1))
def test_money_takes_a_strategy_of_currencies(amount: Money) -> None:
    assert amount.exponent == 3
    assert amount.is_positive


@given(ours.money("BTC", exponent=8))
def test_money_of_a_currency_that_iso_does_not_have(amount: Money) -> None:
    assert (amount.currency, amount.exponent) == ("BTC", 8)


@given(ours.money(min_value=Money("0.5", "BTC", exponent=8)))
def test_a_bound_in_such_a_currency_brings_its_decimals(amount: Money) -> None:
    assert amount >= Money("0.5", "BTC", exponent=8)


def test_money_is_small_and_vast() -> None:
    units = [abs(amount.minor_units) for amount in drawn(ours.money(), 400)]
    assert sum(unit <= 100_000 for unit in units) > 100
    assert sum(unit > 2**53 for unit in units) > 15  # what no float holds


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        (lambda _: True, Money("0.00", "USD")),
        (lambda amount: amount.minor_units > 100, Money("1.01", "USD")),
        (lambda amount: amount.is_negative, Money("-0.01", "USD")),
        (lambda amount: amount.exponent == 0 and amount.minor_units >= 7, Money("7", "JPY")),
        (lambda amount: amount.exponent == 3 and amount.minor_units >= 1000, Money("1.000", "KWD")),
        (lambda amount: amount.exponent == 4, Money("0.0000", "CLF")),
        (lambda amount: amount.minor_units > 2**53, Money.minor(2**53 + 1, "USD")),
    ],
    ids=["any", "more", "negative", "yen", "dinar", "unidad", "no_float"],
)
def test_money_shrinks_to_the_least_amount_of_the_plainest_currency(wanted: Any, shown: Money) -> None:
    assert smallest(ours.money(), wanted) == shown


def test_money_shrinks_to_the_bound_next_to_nought() -> None:
    assert smallest(ours.money(min_minor=1)) == Money("0.01", "USD")
    assert smallest(ours.money(max_value=Money("-5", "JPY"))) == Money("-5", "JPY")


def test_bounds_that_do_not_go_together_are_refused() -> None:
    refuses("no amount lies between", lambda: ours.money(min_minor=2, max_minor=1))
    refuses("one currency", lambda: ours.money(min_value=Money("1", "USD"), max_value=Money("2", "EUR")))
    refuses("one currency", lambda: ours.money("EUR", min_value=Money("1", "USD")))
    refuses("one currency", lambda: ours.money(ours.currencies(), min_value=Money("1", "USD")))
    refuses("give one of them", lambda: ours.money(min_value=Money("1", "USD"), min_minor=1))
    refuses("minor units", lambda: ours.money(min_value=bad(1)))
    refuses("max_minor", lambda: ours.money(max_minor=10**38))
    refuses("min_minor", lambda: ours.money(min_minor=bad(0.5)))
    refuses("exponents", lambda: ours.currencies(exponents=(2, 1)))
    refuses("exponents", lambda: ours.currencies(exponents=()))


@given(ours.payments())
def test_payments_have_references_and_keys_of_their_own_and_are_worth_something(payments: list[Payment]) -> None:
    assert len({payment.reference for payment in payments}) == len(payments) == len({payment.key for payment in payments})
    assert all(payment.amount.is_positive for payment in payments)


@given(ours.books(ours.money("KWD", min_minor=1), at_least=2, at_most=3, doubts=False))
def test_books_have_as_many_payments_as_asked_for_and_no_doubts(both: Books) -> None:
    assert 2 <= len({entry.reference for entry in both.history}) <= 3
    assert {entry.told for entry in both.history} <= {End.OK, End.FAIL}
    assert all(booking.amount.currency == "KWD" for booking in both.ledger)


# ---------------------------------------------------------------- keys


@given(ours.idempotency_keys())
def test_every_key_is_taken_and_can_be_sent(key: str) -> None:
    with idempotency_key(checked_key(key)):
        sent = derive_key(key, "acme.charge")
    assert sent.isascii()
    assert sent.isprintable()
    assert len(sent) <= 255


@given(ours.hostile_keys())
def test_every_hostile_key_is_refused(key: Any) -> None:
    with pytest.raises(ConfigurationError, match="idempotency key"):
        checked_key(key)


def test_keys_are_plain_and_strange_and_long() -> None:
    keys = drawn(ours.idempotency_keys(), 400)
    assert any("\n" in key for key in keys)
    assert any(len(key) > 255 for key in keys)
    assert any("\ud800" in key for key in keys)
    assert sum(key.isascii() and key.isprintable() and len(key) <= 40 for key in keys) > 60
    assert {type(key).__name__ for key in drawn(ours.hostile_keys(), 400)} >= {"str", "bytes", "int", "float", "NoneType", "list", "bool"}


@given(ours.alike_keys())
def test_keys_that_look_alike_are_two_keys_for_us(pair: AlikeKeys) -> None:
    assert checked_key(pair.first) != checked_key(pair.second)
    assert derive_key(pair.first, "acme") != derive_key(pair.second, "acme")


def stripped(key: str) -> str:
    return key.strip()


def folded(key: str) -> str:
    return key.casefold()


def cut(key: str) -> str:
    return key[:255]


def normal(key: str) -> str:
    from unicodedata import normalize

    return normalize("NFKC", key)


@pytest.mark.parametrize("careless", [stripped, folded, cut, normal])
def test_keys_that_look_alike_find_who_takes_two_for_one(careless: Any) -> None:
    pair = smallest(ours.alike_keys(), lambda pair: careless(pair.first) == careless(pair.second))
    assert pair.first != pair.second


@given(ours.same_key_other_body(ours.money("USD")))
def test_one_key_comes_with_two_bodies(clash: Any) -> None:
    assert clash.body != clash.other
    assert checked_key(clash.key) == clash.key


def test_keys_shrink_to_a_plain_one() -> None:
    assert smallest(ours.idempotency_keys()) == "0"
    clash = smallest(ours.same_key_other_body(st.integers()))
    assert (clash.key, clash.body, clash.other) == ("0", 0, 1)


# ---------------------------------------------------------------- faults


@given(ours.fault_schedules([FaultKind.HANG, FaultKind.BUSY], at_most=3, operations=["charge"], tags=["eu"], attempts=2))
def test_a_plan_has_the_faults_that_were_asked_for(plan: FaultPlan) -> None:
    assert len(plan.faults) <= 3
    for fault in plan.faults:
        assert fault.kind in {FaultKind.HANG, FaultKind.BUSY}
        assert fault.operation in {"", "charge"}
        assert fault.tag in {"", "eu"}
        assert fault.nth[:1] in {(), (1,), (2,)}


@given(ours.fault_schedules())
def test_every_plan_can_be_written_down_and_read_again(plan: FaultPlan) -> None:
    assert FaultPlan.from_json(plan.to_json()) == plan


def test_every_kind_comes_up_and_so_do_certain_and_uncertain_faults() -> None:
    seen = [fault for plan in drawn(ours.fault_schedules(), 400) for fault in plan.faults]
    assert {fault.kind for fault in seen} == set(FaultKind) - {FaultKind.OK}
    assert sum(fault.probability == 1.0 and not fault.nth for fault in seen) > 50
    assert sum(fault.probability < 1.0 for fault in seen) > 50
    assert sum(fault.until is not None for fault in seen) > 50
    assert any(len(fault.nth) > 1 for fault in seen)


def strikes(plan: FaultPlan, attempt: int) -> FaultKind | None:
    fault = plan.meets(Asked("charge", "pay_1", attempt))
    return None if fault is None else fault.kind


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        (lambda _: True, FaultPlan()),
        (lambda plan: strikes(plan, 1), FaultPlan([Fault(kind=FaultKind.DECLINE)])),
        (lambda plan: strikes(plan, 1) is FaultKind.TIMEOUT_AFTER, FaultPlan([Fault(kind=FaultKind.TIMEOUT_AFTER)])),
        (lambda plan: strikes(plan, 2) and not strikes(plan, 1), FaultPlan([Fault(kind=FaultKind.DECLINE, nth=(2,))])),
        (
            lambda plan: len({fault.kind for fault in plan.faults}) > 1,
            FaultPlan([Fault(kind=FaultKind.DECLINE), Fault(kind=list(FaultKind)[2])]),
        ),
    ],
    ids=["any", "first", "timeout_after", "second_only", "two"],
)
def test_a_plan_shrinks_to_the_fewest_and_plainest_faults(wanted: Any, shown: FaultPlan) -> None:
    assert smallest(ours.fault_schedules(), wanted) == shown


def naive(plan: FaultPlan) -> int:
    """A flow that tries again after any silence, at a provider without keys: how often does the money move?"""
    moved = 0
    for attempt in (1, 2, 3):
        met = strikes(plan, attempt)
        moved += met in {None, FaultKind.TIMEOUT_AFTER, FaultKind.RESET_AFTER}
        if met not in {FaultKind.TIMEOUT_AFTER, FaultKind.RESET_AFTER}:
            return moved
    return moved


def test_a_failing_property_is_shown_with_the_one_fault_that_matters() -> None:
    seen: list[FaultPlan] = []

    @settings(PATIENT)
    @given(ours.fault_schedules())
    def pays_once(plan: FaultPlan) -> None:
        if naive(plan) > 1:
            seen.append(plan)
            raise AssertionError

    with pytest.raises(AssertionError):
        pays_once()
    (fault,) = seen[-1].faults
    assert seen[-1] == FaultPlan([Fault(kind=fault.kind)])  # whichever of the two it was


def test_bad_arguments_of_plans_are_refused() -> None:
    refuses("kinds", lambda: ours.fault_schedules([]))
    refuses("kinds", lambda: ours.fault_schedules(bad(["hang"])))
    refuses("at_most", lambda: ours.fault_schedules(at_most=-1))
    refuses("attempts", lambda: ours.faults(attempts=0))


def test_a_plan_without_room_for_faults_has_none() -> None:
    assert {plan.faults for plan in drawn(ours.fault_schedules(at_most=0), 5)} == {()}


# ---------------------------------------------------------------- deliveries


def order(deliveries: list[Delivery[str]]) -> str:
    return "".join(delivery.event for delivery in deliveries)


@given(ours.webhook_deliveries("abcd", copies=2))
def test_deliveries_come_in_order_of_arrival_and_never_before_the_event(deliveries: list[Delivery[str]]) -> None:
    assert deliveries == sorted(deliveries, key=lambda delivery: delivery.at)
    for delivery in deliveries:
        assert delivery.at >= delivery.position
        assert "abcd"[delivery.position] == delivery.event
    assert max(Counter(order(deliveries)).values(), default=0) <= 2


@given(ours.webhook_deliveries("abcd", drops=False))
def test_without_drops_each_event_arrives(deliveries: list[Delivery[str]]) -> None:
    assert set(order(deliveries)) == set("abcd")


@given(ours.webhook_deliveries("abcd", reorders=False, copies=1))
def test_without_reordering_and_copies_the_events_are_in_order_and_in_time(deliveries: list[Delivery[str]]) -> None:
    assert order(deliveries) == "".join(sorted(set(order(deliveries))))
    assert all(delivery.at == delivery.position for delivery in deliveries)


@given(ours.webhook_deliveries(st.text("xyz", max_size=4), spacing=0.5))
def test_events_may_be_drawn_too(deliveries: list[Delivery[str]]) -> None:
    assert {delivery.event for delivery in deliveries} <= set("xyz")


def test_every_order_comes_up() -> None:
    seen = {order(deliveries) for deliveries in drawn(ours.webhook_deliveries("abc", drops=False, copies=1), 400)}
    assert seen == set(map("".join, permutations("abc")))


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        (lambda _: True, "abc"),
        (lambda told: len(told) < 3, {"ab", "ac", "bc"}),
        (lambda told: len(told) > 3, "abcc"),
        (lambda told: [delivery.position for delivery in told] != sorted(delivery.position for delivery in told), {"bac", "acb"}),
    ],
    ids=["any", "dropped", "twice", "reordered"],
)
def test_deliveries_shrink_to_plain_order_with_one_thing_wrong(wanted: Any, shown: Any) -> None:
    told = order(smallest(ours.webhook_deliveries("abc"), wanted))
    assert told == shown or told in shown


def test_bad_arguments_of_deliveries_are_refused() -> None:
    refuses("spacing", lambda: ours.webhook_deliveries("a", spacing=0))
    refuses("copies", lambda: ours.webhook_deliveries("a", copies=0))
    refuses("drops", lambda: ours.webhook_deliveries("a", drops=bad(1)))


# ---------------------------------------------------------------- ends


def test_every_kind_of_outcome_comes_up_and_the_plainest_is_an_answer() -> None:
    seen = {type(outcome).__name__ for outcome in drawn(ours.outcomes(), 200)}
    assert seen == {"Ok", "Declined", "Failed", "Unknown", "Refused"}
    shown = smallest(ours.outcomes(ours.money(min_minor=1)))
    assert isinstance(shown, Ok)
    assert (shown.value, shown.fallback) == (Money("0.01", "USD"), None)


@given(ours.outcomes())
def test_every_outcome_unwraps_as_its_kind_does(outcome: Outcome[int]) -> None:
    if isinstance(outcome, Unknown):
        with pytest.raises(UnknownOutcomeError, match="may have happened"):
            outcome.unwrap()
    elif isinstance(outcome, Refused):
        with pytest.raises(RefusedError, match="Nothing was sent"):
            outcome.unwrap()
    elif isinstance(outcome, Ok):
        assert outcome.unwrap() == outcome.value


@given(ours.outcomes(fallbacks=False))
def test_without_fallbacks_every_ok_is_the_providers_own(outcome: Outcome[int]) -> None:
    assert not isinstance(outcome, Ok) or outcome.fallback is None


def test_verdicts_shrink_to_the_plainest() -> None:
    assert smallest(ours.verdicts()) == Verdict(RETRYABLE)
    assert smallest(ours.verdicts(), lambda verdict: verdict.retry_after == 30.0) == Verdict(RETRYABLE, retry_after=30.0)


def test_inquiries_answer_in_every_way() -> None:
    assert {type(answer).__name__ for answer in drawn(ours.found(), 60)} == {"Found", "NotFound", "StillUnknown"}


# ---------------------------------------------------------------- from_type


@pytest.mark.parametrize(
    "kind",
    [
        Money, FaultPlan, Fault, Asked, FaultKind, Verdict, History, Booking,
        Ok, Declined, Failed, Unknown, Refused, Found, UnknownOutcomeError, RefusedError,
    ],
)  # fmt: skip
def test_hypothesis_makes_our_types_by_themselves(kind: type) -> None:
    assert all(isinstance(example, kind) for example in drawn(st.from_type(kind), 20))


def test_hypothesis_makes_an_outcome_of_what_it_is_of() -> None:
    kind: Any = Outcome
    for outcome in drawn(st.from_type(kind[Money]), 60):
        if isinstance(outcome, Ok):
            assert isinstance(outcome.value, Money)


def test_a_registered_type_makes_what_holds_it() -> None:
    assert all(isinstance(payment.amount, Money) for payment in drawn(st.builds(Payment), 20))


def test_histories_of_from_type_can_be_checked() -> None:
    assert {entry.told for history in drawn(st.from_type(History), 60) for entry in history} == set(End)


PROBE = "import {0}; from hypothesis import strategies as st; from finresilience import Money; print(st.from_type(Money).validate())"


@pytest.mark.parametrize("first", ["hypothesis", "finresilience.testing.strategies", "finresilience.testing.registration"])
def test_the_entry_point_works_whatever_is_imported_first(first: str, tmp_path: Path) -> None:
    found = tmp_path / "probe-1.0.dist-info"
    found.mkdir()
    (found / "METADATA").write_text("Metadata-Version: 2.1\nName: probe\nVersion: 1.0\n")
    (found / "entry_points.txt").write_text("[hypothesis]\nprobe = finresilience.testing.registration:register\n")
    where = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    told = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE.format(first)], env=where, capture_output=True, text=True, check=False
    )
    assert (told.stdout, told.stderr) == ("None\n", "")


def test_the_kit_loads_hypothesis_only_for_its_strategies() -> None:
    program = "import sys, finresilience.testing.registration, finresilience.testing.invariants; print('hypothesis' in sys.modules)"
    where = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", program], env=where, capture_output=True, text=True, check=True).stdout == "False\n"


# ---------------------------------------------------------------- are the laws of shrinking awake?


def test_the_law_of_minimal_plans_is_awake(monkeypatch: pytest.MonkeyPatch) -> None:
    def shuffled(*choices: Sequence[Any]) -> list[tuple[Any, ...]]:
        return plain_first(*choices)[::-1]

    plain_first = _faults._plain_first
    monkeypatch.setattr(_faults, "_plain_first", shuffled)
    assert smallest(ours.fault_schedules(), lambda plan: strikes(plan, 1)) != FaultPlan([Fault(kind=FaultKind.DECLINE)])


def test_the_law_of_rare_currencies_is_awake() -> None:
    counts = Counter(amount.exponent for amount in drawn(ours.money(st.sampled_from(sorted(EXPONENTS))), 400))
    assert min(counts.values()) < 60
