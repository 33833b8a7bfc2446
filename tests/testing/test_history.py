"""A history says what callers were told: no more, no less, and the same when it is read again."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
from hypothesis import given, strategies as st

from finresilience import (
    ConfigurationError,
    Constant,
    Declined,
    ExpiredError,
    Failed,
    Money,
    Ok,
    Pipeline,
    Refused,
    Retry,
    Stale,
    Unknown,
    UnknownOutcomeError,
)
from finresilience.errors import DeadlineExceededError
from finresilience.testing import BoundReachedError, ManualClock, explore_threads
from finresilience.testing.history import Booking, End, Entry, History
from finresilience.testing.intents import by_key, by_reference, intents
from finresilience.testing.records import ledger_from_json, shown, timeline
from finresilience.testing.strategies import Books, books, idempotency_keys, money

FIVE = Money("5.00", "USD")
TWO = Money("2.00", "USD")
DOUBT = UnknownOutcomeError("acme", attempts=1, happened="no answer", held_back="Nothing was retried.")


def ended(error: BaseException | None) -> End | None:
    """How an operation ends whose block raises this."""
    history = History()
    try:
        with history.call("charge", "pay_1", FIVE):
            if error is not None:
                raise error
    except BaseException as raised:
        assert raised is error
    return history.entries[0].end


def stood_in(value: Any) -> Ok[Any]:
    ok = Ok(value)
    ok.fallback = Stale(1.0, "Refused CircuitOpenError")
    return ok


# ---------------------------------------------------------------- what callers were told


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (None, End.OK),
        (ValueError("no"), End.FAIL),
        (DeadlineExceededError("acme", 0.1), End.FAIL),
        (DOUBT, End.UNKNOWN),
        (ExpiredError("acme", 2.0), End.UNKNOWN),
        (KeyboardInterrupt(), End.UNKNOWN),
        (SystemExit(), End.UNKNOWN),
        (ExceptionGroup("two", [ValueError(), ExceptionGroup("more", [DOUBT])]), End.UNKNOWN),
        (ExceptionGroup("two", [ValueError(), TypeError()]), End.FAIL),
        (BaseExceptionGroup("two", [ValueError(), KeyboardInterrupt()]), End.UNKNOWN),
    ],
    ids=["well", "error", "refusal", "doubt", "expired", "interrupt", "exit", "group_with_doubt", "group", "group_with_interrupt"],
)
def test_a_block_ends_as_its_exception_tells(error: BaseException | None, end: End) -> None:
    assert ended(error) is end


@pytest.mark.parametrize(
    ("outcome", "end"),
    [
        (Ok(1), End.OK),
        (stood_in(1), End.UNKNOWN),
        (Declined(ValueError()), End.FAIL),
        (Failed(ValueError()), End.FAIL),
        (Refused(DeadlineExceededError("acme", 0.1)), End.FAIL),
        (Unknown(DOUBT), End.UNKNOWN),
    ],
    ids=["ok", "fallback", "declined", "failed", "refused", "unknown"],
)
def test_an_outcome_ends_as_its_kind_tells_and_a_fallback_tells_nothing(outcome: Any, end: End) -> None:
    history = History()
    entry = history.invoke("charge", "pay_1", FIVE)
    history.outcome(entry, outcome)
    assert entry.end is end


@pytest.mark.parametrize(("status", "end"), [("pending", End.UNKNOWN), ("succeeded", End.OK)])
def test_an_ok_that_is_not_done_leaves_a_doubt(status: str, end: End) -> None:
    history = History()
    entry = history.invoke("charge", "pay_1", FIVE)
    history.outcome(entry, Ok(status), done=lambda answer: answer == "succeeded")
    assert entry.end is end


async def test_a_cancelled_block_is_in_doubt() -> None:
    history = History()
    with anyio.CancelScope() as scope:
        with history.call("charge", "pay_1", FIVE):
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert history.entries[0].end is End.UNKNOWN


def test_what_the_block_says_itself_stands() -> None:
    history = History()
    with history.call("charge", "pay_1", FIVE) as entry:
        history.end(entry, End.UNKNOWN)
    with pytest.raises(ValueError, match="later"), history.call("charge", "pay_2", FIVE) as other:
        history.end(other, End.OK)
        raise ValueError("later")
    assert [entry.end for entry in history] == [End.UNKNOWN, End.OK]


def test_an_operation_under_way_is_in_doubt_and_has_not_ended() -> None:
    entry = History().invoke("charge", "pay_1", FIVE)
    assert (entry.end, entry.ended, entry.told) == (None, None, End.UNKNOWN)


def test_times_are_those_of_the_clock() -> None:
    clock = ManualClock(start=3.0)
    history = History(clock.monotonic)
    with history.call("charge", "pay_1", FIVE) as entry:
        clock.advance(2.0)
    assert (entry.began, entry.ended) == (3.0, 5.0)


# ---------------------------------------------------------------- found out later


@pytest.mark.parametrize("end", [End.OK, End.FAIL])
def test_a_doubt_ends_when_somebody_finds_out(end: End) -> None:
    clock = ManualClock()
    history = History(clock.monotonic)
    entry = history.invoke("charge", "pay_1", FIVE)
    history.end(entry, End.UNKNOWN)
    clock.advance(9.0)
    history.resolve(entry, end)
    assert (entry.end, entry.ended) == (end, 9.0)


@pytest.mark.parametrize("end", [None, End.OK, End.FAIL])
def test_what_is_known_is_not_found_out_again(end: End | None) -> None:
    history = History()
    entry = history.invoke("charge", "pay_1", FIVE)
    if end is not None:
        history.end(entry, end)
    with pytest.raises(ConfigurationError, match="nothing to find out"):
        history.resolve(entry, End.OK)
    assert entry.end is end


def test_nobody_finds_out_that_it_is_unknown() -> None:
    history = History()
    entry = history.invoke("charge", "pay_1", FIVE)
    history.end(entry, End.UNKNOWN)
    with pytest.raises(ConfigurationError, match="found out"):
        history.resolve(entry, End.UNKNOWN)


def test_what_another_history_holds_is_found_out_there() -> None:
    history, other = History(), History()
    entry = history.invoke("charge", "pay_1", FIVE)
    history.end(entry, End.UNKNOWN)
    with pytest.raises(ConfigurationError, match="no operation of this history"):
        other.resolve(entry, End.OK)
    assert entry.end is End.UNKNOWN


# ---------------------------------------------------------------- attempts


def test_attempts_of_a_pipeline_are_noted_where_they_are_made() -> None:
    history = History()

    def charge() -> None:
        history.attempt()
        raise ConnectionRefusedError

    refused = Pipeline("acme", Retry(attempts=3, backoff=Constant(0), listeners=[]), listeners=[])(charge)
    with pytest.raises(ConnectionRefusedError), history.call("charge", "pay_1", FIVE) as entry:
        refused()
    assert entry.attempts == 3


async def test_each_task_notes_attempts_of_its_own_operation() -> None:
    history = History()

    async def pay(reference: str, attempts: int) -> None:
        with history.call("charge", reference, FIVE):
            for _ in range(attempts):
                await anyio.lowlevel.checkpoint()
                history.attempt()

    async with anyio.create_task_group() as tasks:
        for attempts in (1, 2, 3):
            tasks.start_soon(pay, f"pay_{attempts}", attempts)
    assert {entry.reference: entry.attempts for entry in history} == {"pay_1": 1, "pay_2": 2, "pay_3": 3}


def test_an_attempt_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no operation of this history is under way"):
        History().attempt()


def test_an_attempt_belongs_to_the_history_that_is_asked() -> None:
    with History().call("charge", "pay_1", FIVE), pytest.raises(ConfigurationError, match="no operation of this history"):
        History().attempt()


# ---------------------------------------------------------------- wrong use


def test_an_operation_ends_once() -> None:
    history = History()
    entry = history.invoke("charge", "pay_1", FIVE)
    history.end(entry, End.FAIL)
    with pytest.raises(ConfigurationError, match="has ended before"):
        history.end(entry, End.OK)
    assert entry.end is End.FAIL


def test_an_operation_ends_in_its_own_history() -> None:
    other = History()
    entry = History().invoke("charge", "pay_1", FIVE)
    other.invoke("charge", "pay_1", FIVE)
    with pytest.raises(ConfigurationError, match="belongs to another history"):
        other.end(entry, End.OK)


def test_a_history_that_is_full_refuses_the_next_operation_and_forgets_nothing() -> None:
    history = History(at_most=2)
    history.invoke("charge", "pay_1", FIVE)
    history.invoke("charge", "pay_2", FIVE)
    with pytest.raises(BoundReachedError, match="at_most"):
        history.invoke("charge", "pay_3", FIVE)
    assert [entry.reference for entry in history] == ["pay_1", "pay_2"]


def wrong(argument: str, use: Any) -> None:
    with pytest.raises(ConfigurationError, match=argument):
        use()


def test_bad_arguments_are_refused_by_name() -> None:
    history: Any = History()
    no_clock: Any = 3.0
    wrong("now", lambda: History(no_clock))
    wrong("at_most", lambda: History(at_most=0))
    wrong("reference", lambda: history.invoke("charge", 7))
    wrong("operation", lambda: history.invoke(None, "pay_1"))
    wrong("end", lambda: history.end(history.invoke("charge", "pay_1"), "ok"))


# ---------------------------------------------------------------- listeners, threads


def test_a_listener_hears_of_each_end_while_its_block_runs() -> None:
    history, heard = History(), list[tuple[str, End | None]]()
    with history.call("charge", "before", FIVE):
        pass
    with history.listening(lambda entry: heard.append((entry.reference, entry.end))):
        with history.call("charge", "inside", FIVE) as entry:
            history.end(entry, End.UNKNOWN)
        history.resolve(entry, End.OK)
    with history.call("charge", "after", FIVE):
        pass
    assert heard == [("inside", End.UNKNOWN), ("inside", End.OK)]


def test_threads_lose_no_entry_and_share_no_number() -> None:
    def story() -> Any:
        history = History()

        def pay() -> None:
            with history.call("charge", "pay_1", FIVE):
                history.attempt()

        def check() -> None:
            assert [entry.number for entry in history] == [1, 2, 3]
            assert [entry.attempts for entry in history] == [1, 1, 1]
            assert len(history.about("pay_1")) == 3

        return [pay, pay, pay], check

    explore_threads(story, seeds=60)


def test_a_thread_that_is_stopped_while_a_history_asks_for_the_time_holds_nobody_up() -> None:
    """The lock was a plain one: whoever waited for it kept the baton, and the run stood still."""

    def story() -> Any:
        def now() -> float:
            return 1.0  # a thread may be stopped here, inside the history

        history = History(now)

        def pay() -> None:
            history.invoke("charge", "pay_1", FIVE)

        return [pay, pay], lambda: None

    explore_threads(story, seeds=20, patience=1.0)


# ---------------------------------------------------------------- intents


def test_what_was_asked_and_what_moved_come_together_by_intent() -> None:
    history = History()
    with history.call("charge", "pay_1", FIVE):
        pass
    history.invoke("refund", "pay_1", TWO)
    ledger = [Booking("acme", "pay_1", "charge", FIVE), Booking("acme", "ghost", "charge", TWO)]
    first, second, third = intents(history, ledger)
    assert (first.told, first.promised, first.bookings) == (End.OK, (FIVE,), (ledger[0],))
    assert (second.told, second.doubtful, second.bookings) == (End.UNKNOWN, (TWO,), ())
    assert (third.told, third.reference, third.bookings) == (None, "ghost", (ledger[1],))


@pytest.mark.parametrize(("name", "count"), [(by_reference, 1), (by_key, 2)])
def test_two_refunds_of_one_payment_are_two_intents_by_their_keys(name: Any, count: int) -> None:
    history = History()
    for key in ("r1", "r2"):
        with history.call("refund", "pay_1", TWO, key=key):
            pass
    assert len(intents(history, [Booking("acme", "pay_1", "refund", TWO, key="r2")], intent=name)) == count


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        ([End.FAIL], End.FAIL),
        ([End.FAIL, End.UNKNOWN], End.UNKNOWN),
        ([End.UNKNOWN, End.FAIL], End.UNKNOWN),
        ([End.UNKNOWN, End.OK], End.OK),
        ([End.OK, End.FAIL], End.OK),
        ([None, End.FAIL], End.UNKNOWN),
    ],
)
def test_a_second_failure_ends_no_doubt_and_one_success_ends_all(ends: list[End | None], told: End) -> None:
    history = History()
    for end in ends:
        entry = history.invoke("charge", "pay_1", FIVE)
        if end is not None:
            history.end(entry, end)
    assert intents(history, [])[0].told is told


def test_the_part_about_one_payment_has_the_same_entries_and_can_end_none() -> None:
    history = History()
    for reference in ("pay_1", "pay_2", "pay_1"):
        history.invoke("charge", reference, FIVE)
    part = history.about("pay_1")
    assert part.entries == part.about("pay_1").entries == [history.entries[0], history.entries[2]]
    assert list(history.about("nobody")) == []
    with pytest.raises(ConfigurationError, match="another history"):
        part.end(part.entries[1], End.OK)


# ---------------------------------------------------------------- written down


def facts(history: History) -> list[tuple[Any, ...]]:
    names = Entry.__slots__
    return [tuple(getattr(entry, name) for name in names) for entry in history]


@given(both=books(), references=st.lists(idempotency_keys(), max_size=3), amount=st.none() | money())
def test_what_is_written_is_read_again_to_the_minor_unit(both: Books, references: list[str], amount: Money | None) -> None:
    for reference in references:
        both.history.invoke("charge", reference, amount, key=reference)
    text = both.history.to_json(both.ledger)
    assert facts(History.from_json(text)) == facts(both.history)
    assert ledger_from_json(text) == tuple(both.ledger)


def test_an_amount_that_no_float_holds_is_written_whole() -> None:
    vast = Money.minor(10**37 + 1, "KWD")
    coin = Money.minor(1, "BTC", exponent=8)
    history = History()
    history.invoke("charge", "pay_1", vast)
    text = history.to_json([Booking("acme", "pay_1", "charge", coin)])
    assert History.from_json(text).entries[0].amount == vast
    assert ledger_from_json(text)[0].amount == coin


def test_a_history_that_was_read_can_go_on() -> None:
    history = History()
    history.invoke("charge", "pay_1", FIVE)
    again = History.from_json(history.to_json())
    again.end(again.entries[0], End.OK)
    assert again.invoke("charge", "pay_2", FIVE).number == 2


GOOD: dict[str, Any] = json.loads(History().to_json([Booking("acme", "pay_1", "charge", FIVE)]))
ROW = {
    "operation": "charge",
    "reference": "pay_1",
    "amount": ["500", "USD", 2],
    "key": None,
    "began": 0.0,
    "ended": 1.0,
    "end": "ok",
    "attempts": 1,
}


WRONG: dict[str, dict[str, Any]] = {
    "amount_as_number": {"amount": [500, "USD", 2]},
    "amount_of_other_exponent": {"amount": ["500", "USD", 3]},
    "amount_of_no_currency": {"amount": ["500", "usd", 2]},
    "amount_in_major_units": {"amount": ["5.00", "USD", 2]},
    "amount_alone": {"amount": "500"},
    "negative_attempts": {"attempts": -1},
    "true_attempts": {"attempts": True},
    "time_in_words": {"began": "now"},
    "no_time": {"began": float("nan")},
    "vast_time": {"began": 10**400},
    "other_end": {"end": "maybe"},
    "end_without_time": {"ended": None},
    "no_reference": {"reference": None},
    "key_as_number": {"key": 7},
}
TEXTS = {
    "nothing": "",
    "list": "[]",
    "empty": "{}",
    "null": "null",
    "deep": "[" * 100_000,
    "no_entries": json.dumps({**GOOD, "entries": 7}),
    **{name: json.dumps({**GOOD, "entries": [{**ROW, **row}]}) for name, row in WRONG.items()},
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_what_is_no_history_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ConfigurationError, match="this is no history") as refused:
        History.from_json(text)
    assert "pay_1" not in str(refused.value)


def test_a_ledger_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="this is no history"):
        ledger_from_json(json.dumps({**GOOD, "bookings": [{"provider": "acme"}]}))


def test_a_later_format_is_refused_by_its_number() -> None:
    with pytest.raises(ConfigurationError, match="format 2"):
        History.from_json(json.dumps({**GOOD, "finresilience_history": 2}))


# ---------------------------------------------------------------- told in order


def test_a_timeline_tells_what_was_asked_what_moved_and_what_was_told_in_order() -> None:
    clock = ManualClock()
    history = History(clock.monotonic)
    with history.call("charge", "pay_1", FIVE):
        clock.advance(2.0)
    lines = timeline(history, [Booking("acme", "pay_1", "charge", FIVE, at=2.0)])
    assert [(line.at, line.said) for line in lines] == [
        (0.0, "charge 'pay_1' 5.00 USD is asked for (1)"),
        (2.0, "charge 'pay_1' 5.00 USD moves at acme"),
        (2.0, "charge 'pay_1' 5.00 USD ends ok, 0 attempts noted (1)"),
    ]


@given(idempotency_keys())
def test_a_reference_is_shown_on_one_short_line_whatever_it_holds(reference: str) -> None:
    told = shown(reference)
    assert told.isascii()
    assert told.isprintable()
    assert len(told) < 100
