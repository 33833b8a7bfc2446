"""A later step of a call fails: what it says is about that step, and tells nothing of the money that may have moved before it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from finresilience import (
    Constant,
    Declined,
    Effect,
    ErrorClassifier,
    Failed,
    NotFound,
    Ok,
    Pipeline,
    Retry,
    Timeout,
    Unknown,
    UnknownOutcomeError,
    mark_sent,
)
from finresilience.classify import evidence
from finresilience.context import Happenings
from finresilience.policies import inquiry, plan as plans
from tests.laws.sabotage import each_kill, kills, nothing
from tests.laws.worlds import both_loops, on, still
from tests.regressions.sending import always, retrying

if TYPE_CHECKING:
    from collections.abc import Callable

Patch = pytest.MonkeyPatch


class Answered(Exception):
    """An answer with a status."""

    def __init__(self, status: int) -> None:
        self.status_code = status


def inner(effect: Effect = Effect.UNSAFE) -> Pipeline:
    return Pipeline("acme.charge", effect=effect, listeners=[])


LATER: dict[str, Callable[[], Exception]] = {
    "refused": lambda: ConnectionRefusedError("ledger"),
    "unreachable": lambda: httpx.ConnectError("status page"),
    "404": lambda: Answered(404),
    "422": lambda: Answered(422),
}


def error_of(later: str) -> Exception:
    return LATER[later]()


each_later = pytest.mark.parametrize("later", LATER)


# --- in the handler of a lost answer -----------------------------------------------------------------------------------


@each_later
def test_an_error_raised_while_an_answer_is_lost_does_not_take_its_place(later: str) -> None:
    """The charge was sent three times: the lock's release, or the status page, had said "not applied"."""
    sent: list[int] = []

    def charge() -> None:
        try:
            sent.append(1)
            raise httpx.ReadTimeout("lost")
        except httpx.TimeoutException:
            raise error_of(later)  # noqa: B904 - as careless code does

    assert isinstance(retrying().outcome(charge), Unknown)
    assert len(sent) == 1


@each_later
def test_an_error_raised_by_a_clean_up_does_not_take_the_place_of_a_lost_answer(later: str) -> None:
    sent: list[int] = []

    def charge() -> None:
        try:
            sent.append(1)
            raise httpx.ReadTimeout("lost")
        finally:
            raise error_of(later)

    assert isinstance(retrying().outcome(charge), Unknown)
    assert len(sent) == 1


def test_an_error_that_is_raised_from_a_lost_answer_on_purpose_is_judged_by_its_own_rules() -> None:
    def charge() -> None:
        try:
            raise ConnectionRefusedError("first try of the client itself")
        except ConnectionRefusedError as error:
            raise Answered(402) from error

    assert isinstance(retrying().outcome(charge), Declined)


def test_what_went_before_is_looked_for_so_far_and_no_farther() -> None:
    error = last = ConnectionRefusedError("last")
    for _ in range(10 * evidence.MAX_LINKS):
        last.__context__ = last = ConnectionRefusedError("one before")
    last.__context__ = httpx.ReadTimeout("beyond")
    assert list(evidence.in_hand_before(error)) == []


def test_an_earlier_error_that_cannot_be_judged_changes_nothing(monkeypatch: Patch) -> None:
    def hostile(*_: object) -> None:
        raise RecursionError

    monkeypatch.setattr(ErrorClassifier, "_ours", hostile)
    assert ErrorClassifier({}).told(ConnectionRefusedError()) is None


# --- after a guarded step that has happened ----------------------------------------------------------------------------


@each_later
def test_what_a_guarded_step_has_done_is_not_done_again_because_a_later_step_failed(later: str) -> None:
    """An outer retry charged three times, since the ledger's "connection refused" spoke for the whole."""
    sent: list[int] = []

    def flow() -> None:
        inner().call(lambda: sent.append(1))
        raise error_of(later)

    assert isinstance(retrying("flow").outcome(flow), Unknown)
    assert len(sent) == 1


@both_loops
@each_later
def test_what_a_guarded_async_step_has_done_is_not_done_again_because_a_later_step_failed(backend: str, later: str) -> None:
    async def story() -> None:
        for timeout in ((), (Timeout(5.0),), (Timeout(5.0), Retry(attempts=2))):
            sent: list[int] = []
            charge = Pipeline("acme.charge", *reversed(timeout), listeners=[])

            @charge
            async def post(sent: list[int] = sent) -> None:
                sent.append(1)

            async def flow(post: Any = post) -> None:
                await post()
                raise error_of(later)

            assert isinstance(await retrying("flow").aoutcome(flow), Unknown)
            assert len(sent) == 1

    on(backend, story)


@each_later
def test_a_guarded_step_of_unknown_outcome_that_was_handled_is_still_unknown(later: str) -> None:
    sent: list[int] = []

    def post() -> None:
        sent.append(1)
        raise httpx.ReadTimeout("lost")

    def flow() -> None:
        outcome = inner().outcome(post)
        assert isinstance(outcome, Unknown)
        raise error_of(later)

    assert isinstance(retrying("flow").outcome(flow), Unknown)
    assert len(sent) == 1


@pytest.mark.parametrize("step", ["read", "declined", "failed"])
def test_a_guarded_step_that_moved_nothing_leaves_the_later_one_its_say(step: str) -> None:
    def post() -> str:
        if step == "declined":
            raise Answered(402)
        if step == "failed":
            raise ConnectionRefusedError("acme")
        return "ok"

    def flow() -> None:
        inner(Effect.READ if step == "read" else Effect.UNSAFE).outcome(post)
        raise Answered(402)

    assert isinstance(retrying("flow").outcome(flow), Declined)


def test_a_step_that_is_repeatable_may_be_done_again() -> None:
    sent: list[int] = []

    def flow() -> str:
        inner(Effect.IDEMPOTENT_BY_NATURE).call(lambda: sent.append(1))
        if len(sent) < 3:
            raise ConnectionRefusedError("ledger")
        return "done"

    pipeline = Pipeline("flow", Retry(attempts=3, backoff=Constant(0)), effect=Effect.IDEMPOTENT_BY_NATURE, listeners=[])
    assert isinstance(pipeline.outcome(flow), Ok)


def test_a_step_that_was_cancelled_once_it_may_have_been_sent_is_not_done_again() -> None:
    sent: list[int] = []

    def post() -> None:
        sent.append(1)
        raise KeyboardInterrupt

    def flow() -> None:
        try:
            inner().call(post)
        except KeyboardInterrupt:
            raise ConnectionRefusedError("ledger") from None

    assert isinstance(retrying("flow").outcome(flow), Unknown)
    assert len(sent) == 1


# --- threads -----------------------------------------------------------------------------------------------------------


def test_a_mark_made_in_a_thread_without_the_calls_context_is_heard() -> None:
    """A pool's thread knows no context: `mark_sent()` there was lost, and the charge sent three times."""
    sent: list[int] = []

    def send() -> None:
        mark_sent()
        sent.append(1)
        raise TimeoutError("read")

    with ThreadPoolExecutor(1) as pool:
        outcome = retrying(marks_sent=True).outcome(lambda: pool.submit(send).result())
    assert isinstance(outcome, Unknown)
    assert len(sent) == 1


def test_a_mark_made_outside_of_any_call_before_this_one_says_nothing_of_it() -> None:
    mark_sent()

    def refused() -> None:
        raise ConnectionRefusedError

    assert isinstance(retrying(marks_sent=True).outcome(refused), Failed)


def test_that_nobody_has_seen_it_proves_nothing_while_the_thread_of_an_earlier_attempt_runs() -> None:
    clock, going, attempts = still(), threading.Event(), [0]

    def charge() -> None:
        attempts[0] += 1
        if attempts[0] > 1:
            raise ConnectionRefusedError
        clock.advance(2.0)
        going.wait()

    policies = (Retry(attempts=2, backoff=Constant(0)), Timeout(1.0, thread_limit=4))
    pipeline = Pipeline("acme", *policies, effect=Effect.IDEMPOTENT_BY_NATURE, clock=clock, listeners=[])
    pipeline.inquiry(schedule=(0,))(always(NotFound()))
    try:
        outcome = pipeline.outcome(charge)
    finally:
        going.set()
    assert isinstance(outcome, Unknown)
    assert isinstance(outcome.error, UnknownOutcomeError)


# --- saboteurs ---------------------------------------------------------------------------------------------------------


def the_last_error_speaks_for_all(patch: Patch) -> None:
    patch.setattr(evidence, "in_hand_before", lambda _: iter(()))


def steps_are_forgotten(patch: Patch) -> None:
    patch.setattr(plans, "moved_inside", nothing)


def marks_without_a_context_are_lost(patch: Patch) -> None:
    patch.setattr(Happenings, "marked_outside", nothing)


def threads_are_forgotten(patch: Patch) -> None:
    patch.setattr(inquiry, "_still_running", always(False))


@each_kill(
    (the_last_error_speaks_for_all, test_an_error_raised_while_an_answer_is_lost_does_not_take_its_place, "refused"),
    (the_last_error_speaks_for_all, test_an_error_raised_by_a_clean_up_does_not_take_the_place_of_a_lost_answer, "404"),
    (steps_are_forgotten, test_what_a_guarded_step_has_done_is_not_done_again_because_a_later_step_failed, "422"),
    (steps_are_forgotten, test_a_guarded_step_of_unknown_outcome_that_was_handled_is_still_unknown, "refused"),
    (marks_without_a_context_are_lost, test_a_mark_made_in_a_thread_without_the_calls_context_is_heard),
    (threads_are_forgotten, test_that_nobody_has_seen_it_proves_nothing_while_the_thread_of_an_earlier_attempt_runs),
)
def test_its_saboteur_is_found_out(row: tuple[Any, ...]) -> None:
    kills(*row)
