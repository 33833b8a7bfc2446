"""An error says what happened, what is now true of the money, and what to do next; and it can travel."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
import re
from typing import Any

import pytest
from hypothesis import given, strategies as st

from finresilience import errors
from finresilience.errors import (
    BulkheadFullError,
    CircuitOpenError,
    ConfigurationError,
    CurrencyMismatchError,
    DeadlineExceededError,
    DecorationError,
    ExpiredError,
    FinresilienceError,
    InvalidMoneyError,
    MissingKeyError,
    NoRouteError,
    RateLimitedError,
    RefusedError,
    ResultError,
    ThreadLimitError,
    UnknownOutcomeError,
)

SECRET = "sk_live_4111111111111111"
TREE = inspect.getdoc(errors) or ""
CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]


def doubt(**more: Any) -> UnknownOutcomeError:
    facts: dict[str, Any] = {"attempts": 2, "happened": "no answer within 2.0 s", "held_back": "Nothing was retried."}
    return UnknownOutcomeError("acme.charge", **facts | more)


def circuit(**more: Any) -> CircuitOpenError:
    facts = {"circuit": "acme", "state": "open", "wait": 3.0, "generation": 7, "last_failure": "AcmeDown"} | more
    return CircuitOpenError(*facts.values())


def speaking() -> list[FinresilienceError]:
    """Every error that writes its own message."""
    return [
        circuit(),
        circuit(wait=None, last_failure=None, state="forced_open"),
        DeadlineExceededError("acme.charge", 0.25),
        ThreadLimitError("acme.charge", 4),
        BulkheadFullError("acme.charge", 20, 0.5),
        BulkheadFullError("acme.charge", 20, 0.0),
        RateLimitedError("acme.charge", 0.25),
        NoRouteError("pay", "none of its routes is in the region of the call"),
        doubt(),
        doubt(attempts=1, reference=SECRET, value={"card": SECRET}),
        ExpiredError("acme.charge", 2.0),
        ExpiredError("acme.charge", 2.0, left_running=True, cut=True),
        ResultError("acme.charge", {"card": SECRET}),
    ]


# ---------------------------------------------------------------- the tree


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    drawn = re.findall(r"^ *([│ ├└─]*)(\w+Error)(?: \((\w+)\))?", TREE, re.MULTILINE)
    assert {name for _, name, _ in drawn} == {kind.__name__ for kind in CLASSES}
    above: dict[int, str] = {-4: "Exception"}
    for branch, name, other in drawn:
        bases = [base.__name__ for base in getattr(errors, name).__bases__]
        depth = len(branch)
        above[depth] = name
        assert bases == [above[depth - 4], *([other] if other else [])]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_one_name_catches_them_all(kind: type[Exception]) -> None:
    assert issubclass(kind, FinresilienceError)


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if RefusedError in kind.__bases__])
def test_a_refusal_is_no_timeout_and_no_os_error(kind: type[Exception]) -> None:
    assert issubclass(kind, RefusedError)
    assert not issubclass(kind, OSError)


def test_an_expiry_is_a_timeout_without_an_errno() -> None:
    expired = ExpiredError("acme.charge", 2.0)
    assert isinstance(expired, TimeoutError)
    assert (expired.errno, expired.strerror, expired.filename) == (None, None, None)


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        (ConfigurationError, ValueError),
        (DecorationError, TypeError),
        (MissingKeyError, TypeError),
        (InvalidMoneyError, ValueError),
        (CurrencyMismatchError, TypeError),
    ],
)
def test_our_own_mistakes_are_what_python_calls_them(kind: type[Exception], base: type[Exception]) -> None:
    with pytest.raises(base, match="because"):
        raise kind("because")


# ---------------------------------------------------------------- the messages


def law_a_message_has_three_parts(error: BaseException) -> None:
    lines = str(error).split("\n")
    assert len(lines) == 3
    assert not lines[0].startswith(" ")
    assert all(re.fullmatch(r"  \S.*", line) for line in lines[1:])
    assert all(line.endswith(".") for line in lines)


@pytest.mark.parametrize("number", range(len(speaking())))
def test_a_message_says_what_happened_what_is_true_of_the_money_and_what_next(number: int) -> None:
    law_a_message_has_three_parts(speaking()[number])


def test_the_law_catches_a_message_that_only_complains() -> None:
    with pytest.raises(AssertionError):
        law_a_message_has_three_parts(TimeoutError("the read operation timed out"))


@pytest.mark.parametrize(
    "error",
    [
        circuit(),
        DeadlineExceededError("acme", 0.1),
        ThreadLimitError("acme", 4),
        BulkheadFullError("acme", 20, 0.5),
        RateLimitedError("acme", 0.25),
        NoRouteError("acme", "none is left"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_a_refusal_says_that_no_money_moved(error: RefusedError) -> None:
    assert "\n  Nothing was sent, so no money moved.\n" in str(error)
    assert str(error).startswith("acme was not called: ")


def test_a_doubt_says_that_it_may_have_happened_and_to_ask() -> None:
    for error in (doubt(), ExpiredError("acme", 2.0)):
        assert "may have" in str(error)
        assert re.search("Ask .*by your own reference", str(error))


def test_no_message_shows_a_secret() -> None:
    for error in speaking():
        assert SECRET not in str(error)
        assert SECRET not in repr(error)


def test_an_unknown_outcome_reads_as_in_the_manual() -> None:
    assert str(doubt()) == (
        "acme.charge may have happened: no answer within 2.0 s (2 attempts).\n"
        "  Nothing was retried.\n"
        "  Ask the provider by your own reference (Pipeline.inquiry), or leave it to reconciliation. Do not send it again as new."
    )
    assert "(1 attempt)" in str(doubt(attempts=1))


def test_an_expired_call_says_whether_its_work_goes_on() -> None:
    assert str(ExpiredError("acme", 2.0)).startswith("acme gave up after 2.000 s without an answer.\n")
    assert "is still running.\n" in str(ExpiredError("acme", 2.0, left_running=True))


def test_an_answer_in_place_of_an_error_is_named_by_its_class() -> None:
    error = ResultError("acme", {"card": SECRET})
    assert str(error).startswith("acme was answered with a dict that is not a success.\n")
    assert error.value == {"card": SECRET}


def test_the_refusals_say_what_was_short() -> None:
    assert "its deadline passed 0.250 s ago." in str(DeadlineExceededError("acme", 0.25))
    assert "all 4 of its threads are still at work" in str(ThreadLimitError("acme", 4))
    assert "all places (20) are taken and no place came free within 0.5 s" in str(BulkheadFullError("acme", 20, 0.5))
    assert "all places (20) are taken and there is no room to wait" in str(BulkheadFullError("acme", 20, 0.0))
    assert "the next slot is 0.25 s away" in str(RateLimitedError("acme", 0.25))
    assert "pay was not called: none is left." in str(NoRouteError("pay", "none is left"))


def test_a_gates_refusal_keeps_its_facts_for_a_program_to_read() -> None:
    full, limited = BulkheadFullError("acme", 20, 0.5), RateLimitedError("quota", 0.25)
    assert (full.bulkhead, full.limit, full.waited, full.retry_after) == ("acme", 20, 0.5, None)
    assert (limited.limiter, limited.retry_after) == ("quota", 0.25)
    assert RateLimitedError("quota", -1.0).retry_after == 0.0


# ---------------------------------------------------------------- an open circuit


def test_an_open_circuit_tells_its_facts() -> None:
    error = circuit()
    assert (error.circuit, error.state, error.retry_after, error.generation, error.last_failure) == ("acme", "open", 3.0, 7, "AcmeDown")
    assert str(error).startswith("acme was not called: its circuit is open, last failure AcmeDown.\n")
    assert str(error).endswith("\n  Try again in 3.0 s, or use another route.")


@pytest.mark.parametrize("wait", [None, math.inf], ids=repr)
def test_a_circuit_that_a_person_holds_open_names_no_time(wait: float | None) -> None:
    error = circuit(wait=wait, state="isolated", last_failure=None)
    assert error.retry_after is None
    assert error.last_failure is None
    assert str(error).startswith("acme was not called: its circuit is isolated.\n")
    assert str(error).endswith("\n  Ask whoever holds it open.")


@given(st.one_of(st.floats(allow_nan=False), st.integers(-5, 5)))
def test_an_open_circuit_never_asks_for_a_wait_below_nothing_or_without_end(wait: float) -> None:
    told = circuit(wait=wait).retry_after
    assert told is None or 0.0 <= told < math.inf


def test_other_refusals_do_not_know_when() -> None:
    assert RefusedError().retry_after is None
    assert DeadlineExceededError("acme", 0.1).retry_after is None


# ---------------------------------------------------------------- travelling


def fields(error: BaseException) -> dict[str, object]:
    named = ("name", "attempts", "happened", "held_back", "reference", "limit", "left_running", "cut", "value", "__notes__")
    return {name: getattr(error, name) for name in named if hasattr(error, name)}


def law_an_error_arrives_as_it_left(error: BaseException) -> None:
    for travelled in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(travelled) is type(error)
        assert str(travelled) == str(error)
        assert fields(travelled) == fields(error)


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if not any(isinstance(error, kind) for error in speaking())])
def test_an_error_with_a_plain_message_arrives_as_it_left(kind: type[Exception]) -> None:
    law_an_error_arrives_as_it_left(kind("because"))


@pytest.mark.parametrize("number", range(len(speaking())))
def test_an_error_with_facts_arrives_as_it_left_with_its_notes(number: int) -> None:
    error = speaking()[number]
    if not isinstance(error, UnknownOutcomeError) or error.value is None:
        law_an_error_arrives_as_it_left(error)
        error.add_note("acme.charge: 3 attempts, waited 1.5 s")
        law_an_error_arrives_as_it_left(error)


class Forgetful(FinresilienceError):
    """The saboteur: it keeps its facts, but not where pickle looks."""

    def __init__(self, name: str, *, limit: float) -> None:
        super().__init__(name)
        self.name, self.limit = name, limit


def test_the_law_catches_an_error_that_cannot_be_made_again() -> None:
    with pytest.raises(TypeError):
        law_an_error_arrives_as_it_left(Forgetful("acme", limit=2.0))


def test_an_unknown_outcome_travels_without_an_answer_that_cannot() -> None:
    error = doubt(value=lambda: "a response with a socket in it", reference="pay_1")
    arrived = pickle.loads(pickle.dumps(error))
    assert str(arrived) == str(error)
    assert (arrived.reference, arrived.value) == ("pay_1", None)
