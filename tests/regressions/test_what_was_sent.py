"""What had left, or may still leave, was taken for never sent: and was charged a second time."""

from __future__ import annotations

import asyncio
from threading import Event
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from finresilience import (
    RETRYABLE,
    AttemptOverError,
    CircuitBreaker,
    Effect,
    ErrorClassifier,
    Failed,
    MissingKeyError,
    NotFound,
    Pipeline,
    RefusedError,
    Retry,
    Timeout,
    Unknown,
    UnknownOutcomeError,
    Verdict,
    context as contexts,
    mark_sent,
)
from finresilience.classify import http, sockets
from finresilience.context import current, mark_outside
from finresilience.policies import inquiry, plan as plans
from finresilience.policies.call import Call
from finresilience.policies.plan import Plan
from finresilience.testing import ManualClock, run_virtual
from tests.laws.sabotage import each_kill, kills, nothing
from tests.laws.worlds import Down
from tests.regressions.sending import always, retrying

if TYPE_CHECKING:
    from finresilience.context import CallContext

Patch = pytest.MonkeyPatch


# --- further in --------------------------------------------------------------------------------------------------------


def test_a_refusal_further_in_says_nothing_of_what_was_sent_before_it() -> None:
    """The charge had left when the ledger's circuit refused, and the whole call was told as "nothing was sent"."""
    ledger = CircuitBreaker("ledger", listeners=[])
    ledger.trip()

    def charge() -> None:
        mark_sent()
        ledger.call(lambda: None)

    assert isinstance(retrying(marks_sent=True).outcome(charge), Unknown)


def test_a_missing_key_further_in_is_no_providers_no() -> None:
    def charge() -> None:
        mark_sent()
        Pipeline("acme.notify", effect=Effect.IDEMPOTENT, listeners=[]).call(lambda: None)

    assert isinstance(retrying(marks_sent=True).outcome(charge), Unknown)


def the_mark_is_forgotten_where_we_refuse(patch: Patch) -> None:
    failed = Call.failed

    def forgetful(self: Call, error: Exception) -> None:
        if isinstance(error, RefusedError | MissingKeyError):
            self.context.sent = False
        failed(self, error)

    patch.setattr(Call, "failed", forgetful)


@pytest.mark.parametrize("wrapped", ["as cause", "in a group"])
def test_what_a_guarded_call_inside_may_have_sent_is_not_sent_again_for_want_of_a_mark(wrapped: str) -> None:
    """Wrapped into an error of the caller's own, an unknown outcome further in was judged as never sent, and charged again."""
    charged: list[int] = []

    def charge() -> None:
        charged.append(1)
        raise TimeoutError("read timed out")

    def pay() -> None:
        try:
            Pipeline("acme.charge", Timeout(2), listeners=[]).call(charge)
        except UnknownOutcomeError as error:
            if wrapped == "as cause":
                raise ValueError from error
            raise ExceptionGroup("", [error]) from None

    assert isinstance(retrying("flow", marks_sent=True).outcome(pay), Unknown)
    assert charged == [1]


def a_call_inside_marks_nothing_outside(patch: Patch) -> None:
    patch.setattr(plans, "mark_outside", nothing)
    patch.setattr(plans, "moved_inside", nothing)


def test_a_read_inside_sends_nothing_that_matters() -> None:
    tries: list[int] = []

    def look_up() -> None:
        tries.append(1)
        Pipeline("look", Retry(attempts=1), effect=Effect.READ, listeners=[]).call(lambda: "ok")
        raise ValueError

    assert isinstance(retrying("flow", marks_sent=True).outcome(look_up), Failed)
    assert len(tries) == 3


def whatever_is_called_inside_is_sent(patch: Patch) -> None:
    def begins(self: Plan, context: CallContext) -> None:
        mark_outside(context)

    patch.setattr(Plan, "begins", begins)


# --- beside it ---------------------------------------------------------------------------------------------------------


def test_an_error_beside_a_charge_does_not_repeat_the_charge() -> None:
    """A task group cancels the charge on its way when its neighbour fails; the neighbour's harmless error had it sent again."""
    charged: list[int] = []

    async def post() -> None:
        charged.append(1)
        await anyio.sleep(10)

    async def risk() -> None:
        await anyio.sleep(1)
        raise ConnectionRefusedError

    async def charge() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(post())
            group.create_task(risk())

    outcome = run_virtual(retrying().aoutcome, charge, backend="asyncio")
    assert isinstance(outcome, Unknown)
    assert charged == [1]


def a_group_is_as_harmless_as_its_errors(patch: Patch) -> None:
    def together(self: ErrorClassifier, group: BaseExceptionGroup[Exception]) -> Verdict:
        return self.error(group.exceptions[0])

    patch.setattr(ErrorClassifier, "_together", together)


@pytest.mark.parametrize("error", [ConnectionRefusedError("metrics"), httpx.ConnectError("metrics")])
def test_a_hook_that_fails_after_the_answer_does_not_repeat_the_charge(error: Exception) -> None:
    law_a_hook_is_no_charge(error)


def law_a_hook_is_no_charge(error: Exception) -> None:
    taken: list[int] = []

    def answer(_: httpx.Request) -> httpx.Response:
        taken.append(1)
        return httpx.Response(201)

    def hook(_: httpx.Response) -> None:
        raise error

    with httpx.Client(transport=httpx.MockTransport(answer), event_hooks={"response": [hook]}) as client:
        outcome = retrying().outcome(lambda: client.post("https://acme.test/charges"))
    assert isinstance(outcome, Unknown)
    assert taken == [1]


def what_went_before_is_not_looked_for(patch: Patch) -> None:
    for module in (http, sockets):
        patch.setattr(module, "sent_before", always(False))


# --- left behind -------------------------------------------------------------------------------------------------------


def test_that_nobody_has_seen_it_proves_nothing_while_a_thread_may_still_send_it() -> None:
    clock, gate = ManualClock(), Event()
    pipeline = Pipeline("acme", Timeout(1.0, thread_limit=1), clock=clock, listeners=[])
    pipeline.inquiry(schedule=(0,))(lambda: NotFound())  # noqa: PLW0108 - a class is no function that asks

    def charge() -> None:
        clock.advance(2.0)
        gate.wait()

    outcome = pipeline.outcome(charge)
    gate.set()
    assert isinstance(outcome, Unknown)


def a_thread_left_behind_is_forgotten(patch: Patch) -> None:
    patch.setattr(inquiry, "_still_running", always(False))


def test_what_an_attempt_left_behind_cannot_send_any_more() -> None:
    """Judged as not sent and tried again, the first attempt's thread woke up and sent as well."""
    sent: list[str] = []
    left: list[Any] = []

    def charge() -> str:
        left.append(current.get())
        if len(left) == 1:
            raise TimeoutError
        token = current.set(left[0])
        with pytest.raises(AttemptOverError):
            mark_sent()
        current.reset(token)
        mark_sent()
        sent.append("second")
        return "paid"

    assert retrying(marks_sent=True).call(charge) == "paid"
    assert sent == ["second"]


def nobody_is_stopped_at_the_mark(patch: Patch) -> None:
    patch.setattr(contexts, "_stop_if_over", nothing)


def test_the_retry_of_a_call_that_marks_may_send() -> None:
    tries: list[int] = []

    def charge() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise Down  # no connection of the pool was free, say
        mark_sent()
        return "paid"

    assert retrying(marks_sent=True).call(charge) == "paid"


def each_attempt_is_inside_the_one_before(patch: Patch) -> None:
    enter = Call.enter

    def nested(self: Call) -> CallContext:
        before, own = self.context, enter(self)
        own.outer = before
        return own

    patch.setattr(Call, "enter", nested)


def nothing_unmarked_was_sent(patch: Patch) -> None:
    def judge(self: Plan, error: Exception, *, sent: bool) -> Verdict:
        return self.classifier.error(error) if sent else Verdict(RETRYABLE)

    patch.setattr(Plan, "judge", judge)


def test_an_expiry_whose_thread_was_left_behind_is_unknown_before_the_mark_too() -> None:
    """The thread had not marked anything when it was given up; that it could send later was not thought of."""
    clock, gate, asked = ManualClock(), Event(), list[int]()
    pipeline = retrying("acme", Timeout(1.0, thread_limit=3), clock=clock, marks_sent=True)

    def charge() -> None:
        asked.append(1)
        clock.advance(2.0)
        gate.wait()

    outcome = pipeline.outcome(charge)
    gate.set()
    assert isinstance(outcome, Unknown)
    assert asked == [1]


@each_kill(
    (the_mark_is_forgotten_where_we_refuse, test_a_refusal_further_in_says_nothing_of_what_was_sent_before_it),
    (the_mark_is_forgotten_where_we_refuse, test_a_missing_key_further_in_is_no_providers_no),
    *(
        (
            a_call_inside_marks_nothing_outside,
            test_what_a_guarded_call_inside_may_have_sent_is_not_sent_again_for_want_of_a_mark,
            wrapped,
        )
        for wrapped in ("as cause", "in a group")
    ),
    (whatever_is_called_inside_is_sent, test_a_read_inside_sends_nothing_that_matters),
    (a_group_is_as_harmless_as_its_errors, test_an_error_beside_a_charge_does_not_repeat_the_charge),
    (what_went_before_is_not_looked_for, law_a_hook_is_no_charge, ConnectionRefusedError("metrics")),
    (what_went_before_is_not_looked_for, law_a_hook_is_no_charge, httpx.ConnectError("metrics of old")),
    (a_thread_left_behind_is_forgotten, test_that_nobody_has_seen_it_proves_nothing_while_a_thread_may_still_send_it),
    (nobody_is_stopped_at_the_mark, test_what_an_attempt_left_behind_cannot_send_any_more),
    (each_attempt_is_inside_the_one_before, test_the_retry_of_a_call_that_marks_may_send),
    (nothing_unmarked_was_sent, test_an_expiry_whose_thread_was_left_behind_is_unknown_before_the_mark_too),
)
def test_its_saboteur_is_found_out(row: tuple[Any, ...]) -> None:
    kills(*row)
