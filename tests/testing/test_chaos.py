"""Trouble made on purpose: what the caller sees, what really happened, and what it looks like."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import pytest

from finresilience import Constant, Declined, ErrorClassifier, Failed, Ok, Outcome, Retry, Timeout, Unknown, mark_sent
from finresilience.errors import ConfigurationError
from finresilience.testing import chaos as room, instant
from finresilience.testing.chaos import KINDS, Chaos, ChaosError, Strike
from finresilience.testing.faults import CALLS, MOVES, Fault, FaultKind, FaultPlan
from finresilience.testing.strikes import SCRIPTS
from tests.laws.sabotage import each_kill, kills, nothing
from tests.laws.worlds import both_loops, on
from tests.testing.troubles import FORMS, PERMIT, Bank, chaos, each_form, ended, error_of, one, piped, plan

# ---------------------------------------------------------------- what each kind does

SEEN: dict[FaultKind, type[Exception]] = {
    FaultKind.DECLINE: ChaosError,
    FaultKind.DECLINE_SILENT: TimeoutError,
    FaultKind.HANG: TimeoutError,
    FaultKind.TIMEOUT_BEFORE: TimeoutError,
    FaultKind.TIMEOUT_AFTER: TimeoutError,
    FaultKind.RESET: ConnectionResetError,
    FaultKind.RESET_AFTER: ConnectionResetError,
    FaultKind.TOO_MANY: ChaosError,
    FaultKind.BUSY: ChaosError,
    FaultKind.HTML: ChaosError,
    FaultKind.HTML_AFTER: ChaosError,
    FaultKind.CONTRADICT: ChaosError,
}
TAKES: dict[FaultKind, float] = {
    FaultKind.SLOW: 5.0,
    FaultKind.HANG: 86_400.0,
    FaultKind.DECLINE_SILENT: 30.0,
    FaultKind.TIMEOUT_BEFORE: 30.0,
    FaultKind.TIMEOUT_AFTER: 30.0,
}
HAPPENS = (MOVES | {FaultKind.CONTRADICT}) & KINDS


@each_form
@pytest.mark.parametrize("kind", SEEN)
def test_the_caller_sees_the_fault_and_the_money_moves_only_where_the_kind_says_so(form: str, kind: FaultKind) -> None:
    bank = Bank()
    outcome, took = one(form, lambda: chaos(kind), bank)
    assert type(error_of(outcome)) is SEEN[kind]
    assert bank.booked == (["pay_1"] if kind in HAPPENS else [])
    assert took == TAKES.get(kind, 0.0)


@each_form
@pytest.mark.parametrize("kind", [FaultKind.SLOW, FaultKind.OK])
def test_a_slow_call_is_made_and_answers_late(form: str, kind: FaultKind) -> None:
    bank = Bank()
    outcome, took = one(form, lambda: chaos(kind), bank)
    assert isinstance(outcome, Ok)
    assert (outcome.value, bank.booked, took) == ("paid pay_1", ["pay_1"], TAKES.get(kind, 0.0))


def test_every_kind_that_can_be_made_is_tested_here() -> None:
    assert {*SEEN, FaultKind.OK, FaultKind.SLOW} == KINDS
    assert {FaultKind.EFFECT_LATER} == CALLS - KINDS


@each_form
def test_an_answer_thrown_away_leaves_the_caller_in_doubt(form: str) -> None:
    bank = Bank()
    make = partial(chaos, FaultKind.TIMEOUT_AFTER)
    outcomes, _ = ended(form, lambda: piped(make(), Retry(attempts=3, backoff=Constant(1))), bank, "pay_1")
    assert isinstance(outcomes[0], Unknown)
    assert bank.booked == ["pay_1"]  # UNSAFE and unknown: nobody sent it again


@pytest.mark.parametrize(
    ("kind", "end"),
    [
        (FaultKind.DECLINE, Declined),
        (FaultKind.CONTRADICT, Declined),
        (FaultKind.TOO_MANY, Failed),
        (FaultKind.BUSY, Failed),
        (FaultKind.HTML, Unknown),
        (FaultKind.RESET, Unknown),
        (FaultKind.TIMEOUT_BEFORE, Unknown),
    ],
)
def test_the_default_rules_read_what_is_shown_as_they_would_a_clients(kind: FaultKind, end: type[object]) -> None:
    with instant():
        outcome = piped(chaos(kind)).outcome(Bank().charge, "pay_1")
    assert type(outcome) is end


@pytest.mark.parametrize("kind", [FaultKind.TOO_MANY, FaultKind.BUSY])
@pytest.mark.parametrize("wait", [3.0, 0.25])
def test_a_provider_that_says_when_to_come_again_is_obeyed(kind: FaultKind, wait: float) -> None:
    bank = Bank()
    with instant() as clock:
        outcome = piped(chaos(kind, nth=(1,), retry_after=wait), Retry(attempts=2, backoff=Constant(0))).outcome(bank.charge, "pay_1")
    assert isinstance(outcome, Ok)
    assert clock.waits == [wait]


@each_form
def test_silence_lasts_until_the_callers_own_limit(form: str) -> None:
    bank = Bank()
    outcomes, took = ended(form, lambda: piped(chaos(FaultKind.HANG), Timeout(2.0, exact=True)), bank, "pay_1")
    assert isinstance(outcomes[0], Unknown)
    assert (took, bank.booked) == (2.0, [])


def test_the_caller_gives_up_by_itself_when_its_patience_ends() -> None:
    with instant() as clock:
        trouble = Chaos(plan(FaultKind.TIMEOUT_AFTER), permit=PERMIT, patience=1.5, listeners=[])
        piped(trouble, Timeout(20.0)).outcome(Bank().charge, "pay_1")
    assert clock.monotonic() == 1.5


@both_loops
def test_a_limit_of_the_policies_outside_ends_the_wait_and_the_answer_is_lost(backend: str) -> None:
    bank = Bank()

    async def charge() -> Outcome[str]:
        return await piped(chaos(FaultKind.SLOW), Timeout(2.0)).aoutcome(bank.acharge, "pay_1")

    assert isinstance(on(backend, charge), Unknown)
    assert bank.booked == ["pay_1"]


@each_form
def test_an_error_of_the_calls_own_is_not_replaced(form: str) -> None:
    class Broken(Bank):
        def charge(self, payment: str) -> str:
            raise ZeroDivisionError

    outcome, _ = one(form, lambda: chaos(FaultKind.TIMEOUT_AFTER), Broken())
    assert type(error_of(outcome)) is ZeroDivisionError


# ---------------------------------------------------------------- sent, or not


def test_what_the_function_marks_is_not_marked_for_it() -> None:
    class Marking(Bank):
        def charge(self, payment: str) -> str:
            mark_sent()
            return super().charge(payment)

    def sent(bank: Bank, kind: FaultKind) -> bool:
        rules = ErrorClassifier({})
        with instant():
            outcome = piped(chaos(kind), marks_sent=True, classify=rules).outcome(bank.charge, "pay_1")
        return isinstance(outcome, Unknown)

    assert sent(Marking(), FaultKind.RESET_AFTER)
    assert not sent(Bank(), FaultKind.RESET_AFTER)  # a function that forgets its mark is found out, not helped
    assert sent(Bank(), FaultKind.RESET)  # nobody can know that it did not arrive


def test_a_call_that_was_not_struck_is_not_marked() -> None:
    def failing(payment: str) -> str:
        raise ConnectionResetError(payment)

    with instant():
        outcome = piped(chaos(FaultKind.OK), marks_sent=True).outcome(failing, "pay_1")
    assert isinstance(outcome, Failed)


# ---------------------------------------------------------------- what it looks like, and what else it does


def test_a_client_of_your_own_is_imitated() -> None:
    class Lost(Exception): ...

    def raised(strike: Strike) -> Exception:
        return Lost(strike.subject)

    with instant():
        outcome = piped(chaos(FaultKind.RESET_AFTER, shows={FaultKind.RESET_AFTER: raised})).outcome(Bank().charge, "pay_1")
    assert isinstance(error_of(outcome), Lost)
    assert error_of(outcome).args == ("pay_1",)


@each_form
def test_an_answer_can_be_made_up(form: str) -> None:
    bank = Bank()
    outcome, _ = one(form, lambda: chaos(FaultKind.DECLINE, shows={FaultKind.DECLINE: lambda strike: f"no to {strike.operation}"}), bank)
    assert isinstance(outcome, Ok)
    assert outcome.value == ("no to chaos" if form.endswith("alone") else "no to acme.charge")
    assert bank.booked == []


@each_form
def test_something_else_can_be_done_before_the_call(form: str) -> None:
    bank = Bank()
    outcome, _ = one(form, lambda: chaos(FaultKind.OK, does={FaultKind.OK: lambda strike: bank.booked.append("cache dropped")}), bank)
    assert isinstance(outcome, Ok)
    assert bank.booked == ["cache dropped", "pay_1"]


def test_a_made_up_error_says_that_it_is_and_why() -> None:
    with pytest.raises(ChaosError, match=r"^acme: busy, injected by chaos \(laws of chaos\)$") as told:
        Chaos(plan(FaultKind.BUSY, retry_after=2.0), permit=PERMIT, name="acme", listeners=[]).call(Bank().charge, "pay_1")
    assert (told.value.status_code, told.value.headers["Retry-After"]) == (503, "2")


# ---------------------------------------------------------------- wrong use

LATER = FaultPlan([Fault(kind=FaultKind.EFFECT_LATER)])
MIRRORED = FaultPlan([Fault(kind=FaultKind.CONTRADICT, code="succeeded")])
WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no plan": ([], {}, "a FaultPlan, such as"),
    "a kind that only a provider can make": (LATER, {}, "effect_later, which only the provider itself can: take a FakeProvider"),
    "a success nobody can invent": (MIRRORED, {}, "contradict, which only the provider"),
    "a subject that is no function": (FaultPlan(), {"subject": "pay_1"}, "subject=.*a function of the call's arguments"),
    "a tag that is no function": (FaultPlan(), {"tag": "big"}, "tag=.*a function of the call's arguments"),
    "an exception class to show": (FaultPlan(), {"shows": {FaultKind.RESET: ConnectionResetError}}, "shows= takes plain functions"),
    "an async hook": (FaultPlan(), {"does": {FaultKind.OK: anyio.sleep}}, "does= takes plain functions"),
    "a hook for a webhook": (FaultPlan(), {"does": {FaultKind.WEBHOOK_LATE: print}}, "does= takes plain functions"),
    "no patience": (FaultPlan(), {"patience": 0}, "patience="),
    "nothing kept": (FaultPlan(), {"keep": 0}, "keep="),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_use_is_refused_at_construction(wrong: str) -> None:
    faults, more, said = WRONG[wrong]
    with pytest.raises(ConfigurationError, match=said):
        Chaos(faults, permit=PERMIT, **more)


def test_what_a_provider_says_in_contradiction_can_be_made_up() -> None:
    with instant():
        told = chaos(MIRRORED, shows={FaultKind.CONTRADICT: lambda _: "paid, or so they say"}).call(Bank().charge, "pay_1")
    assert told == "paid, or so they say"


def test_a_subject_that_is_no_text_is_refused_before_anything_is_sent() -> None:
    bank = Bank()
    number: Any = lambda _: 7  # noqa: E731 - Any, since it is wrong on purpose
    trouble = Chaos(plan(FaultKind.BUSY), permit=PERMIT, subject=number)
    with pytest.raises(ConfigurationError, match=r"subject= of chaos must give a str or None, not a int; nothing was sent"):
        trouble.call(bank.charge, "pay_1")
    assert bank.booked == []


# ---------------------------------------------------------------- saboteurs


def scripted(patch: pytest.MonkeyPatch, kind: FaultKind, as_if: FaultKind) -> None:
    patch.setattr(room, "SCRIPTS", {**SCRIPTS, kind: SCRIPTS[as_if]})


def a_timeout_after_makes_no_call(patch: pytest.MonkeyPatch) -> None:
    scripted(patch, FaultKind.TIMEOUT_AFTER, FaultKind.TIMEOUT_BEFORE)


def a_timeout_before_makes_the_call(patch: pytest.MonkeyPatch) -> None:
    scripted(patch, FaultKind.TIMEOUT_BEFORE, FaultKind.TIMEOUT_AFTER)


def a_timeout_takes_no_time(patch: pytest.MonkeyPatch) -> None:
    scripted(patch, FaultKind.TIMEOUT_AFTER, FaultKind.RESET_AFTER)


def an_answer_is_thrown_away_unawaited(patch: pytest.MonkeyPatch) -> None:
    async def dropped(answer: Any) -> None:
        if hasattr(answer, "close"):
            answer.close()

    patch.setattr(room, "_awaited", dropped)


def nobody_is_marked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(room, "_sent", nothing)


MONEY = test_the_caller_sees_the_fault_and_the_money_moves_only_where_the_kind_says_so


@each_kill(
    *((a_timeout_after_makes_no_call, MONEY, form, FaultKind.TIMEOUT_AFTER) for form in FORMS),
    (a_timeout_before_makes_the_call, MONEY, "sync called", FaultKind.TIMEOUT_BEFORE),
    (a_timeout_takes_no_time, MONEY, "asyncio called", FaultKind.TIMEOUT_AFTER),
    (an_answer_is_thrown_away_unawaited, MONEY, "trio decorated", FaultKind.TIMEOUT_AFTER),
    (a_timeout_after_makes_no_call, test_an_answer_thrown_away_leaves_the_caller_in_doubt, "asyncio called"),
    (nobody_is_marked, test_what_the_function_marks_is_not_marked_for_it),
)
def test_the_laws_are_awake(row: tuple[Any, ...]) -> None:
    kills(*row)
