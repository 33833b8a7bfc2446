"""What settles a doubt, and what only seems to: gates, keys that nobody hands on, an inquiry that asks about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from finresilience import (
    Custom,
    Declined,
    Effect,
    MissingKeyError,
    NotFound,
    Ok,
    Pipeline,
    Retry,
    Unknown,
    idempotency_key,
)
from finresilience.classify import evidence
from finresilience.cores.join import End, Join
from finresilience.policies import ending, inquiry
from finresilience.testing import ManualClock
from tests.laws.sabotage import each_kill, kills
from tests.laws.worlds import both_loops, on
from tests.regressions.sending import Answered, always, retrying

if TYPE_CHECKING:
    from collections.abc import Iterator

    from finresilience import Verdict

Patch = pytest.MonkeyPatch


# --- a no --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("second", "end"),
    [
        (httpx.InvalidURL("x"), Unknown),
        (httpx.UnsupportedProtocol("x"), Unknown),
        (MissingKeyError("x"), Unknown),
        *[(Answered(status), Unknown) for status in (401, 403, 404, 413)],
        (Answered(402), Declined),
        (Answered(422), Declined),
    ],
    ids=repr,
)
def test_only_the_providers_word_on_the_payment_settles_a_doubt(second: Exception, end: type[object]) -> None:
    """After an answer was lost, "who are you?" from the gate was believed to mean that the first attempt had not been taken."""
    law_who_settles_a_doubt(second, end)


def law_who_settles_a_doubt(second: Exception, end: type[object]) -> None:
    script = [httpx.ReadTimeout("lost"), second]

    def charge() -> None:
        raise script.pop(0)

    pipeline = retrying(effect=Effect.IDEMPOTENT, key=lambda: "pay_1")
    assert isinstance(pipeline.outcome(charge), end)


def every_no_is_the_providers(patch: Patch) -> None:
    patch.setattr(evidence, "speaks_of_the_call", always(True))


def no_no_is_the_providers(patch: Patch) -> None:
    patch.setattr(evidence, "speaks_of_the_call", always(False))


def test_a_gates_no_to_the_only_attempt_is_a_no() -> None:
    def charge() -> None:
        raise Answered(401)

    assert isinstance(retrying().outcome(charge), Declined)


def a_gates_no_leaves_a_doubt(patch: Patch) -> None:
    attempt = Join.attempt

    def doubtful(self: Join, verdict: Verdict, *, final: bool = True) -> None:
        attempt(self, verdict, final=final)
        if not final:
            self._unknown = verdict

    patch.setattr(Join, "attempt", doubtful)


def test_a_key_that_nobody_hands_on_joins_nothing() -> None:
    script = [httpx.ReadTimeout("lost"), Answered(402)]

    def charge() -> None:
        raise script.pop(0)

    with idempotency_key("pay_1"):
        assert isinstance(retrying(effect=Effect.IDEMPOTENT_BY_NATURE).outcome(charge), Unknown)


def whoever_has_a_key_hands_it_on(patch: Patch) -> None:
    end = Join.end

    def credulous(self: Join) -> End:
        self._keyed = True
        return end(self)

    patch.setattr(Join, "end", credulous)


# --- an inquiry --------------------------------------------------------------------------------------------------------


@both_loops
def test_an_inquiry_guarded_by_its_own_pipeline_does_not_ask_about_itself(backend: str) -> None:
    asked: list[int] = []
    acme = Pipeline("acme", Retry(attempts=1), listeners=[])

    @acme.inquiry(schedule=(1, 1))
    @acme
    async def find() -> NotFound:
        asked.append(1)
        raise TimeoutError

    async def charge() -> None:
        raise TimeoutError

    assert isinstance(on(backend, lambda: acme.aoutcome(charge)), Unknown)
    assert asked == [1, 1]


def test_a_plain_inquiry_does_not_ask_about_itself_either() -> None:
    asked: list[int] = []
    acme = Pipeline("acme", Retry(attempts=1), clock=ManualClock(), listeners=[])

    @acme.inquiry(schedule=(1, 1))
    @acme
    def find() -> NotFound:
        asked.append(1)
        raise TimeoutError

    def charge() -> None:
        raise TimeoutError

    assert isinstance(acme.outcome(charge), Unknown)
    assert asked == [1, 1]


class Shallow:
    """Remembers who asks only from the third one inside another on: without any end, no test would end."""

    def __init__(self) -> None:
        self.depth = 0

    def get(self) -> Shallow:
        return self

    def set(self, _: object) -> None:
        self.depth += 1

    def reset(self, _: object) -> None:
        self.depth -= 1

    def __iter__(self) -> Iterator[object]:
        return iter(())

    def __contains__(self, _: object) -> bool:
        return self.depth > 2


def an_inquiry_may_ask_about_itself(patch: Patch) -> None:
    patch.setattr(inquiry, "_asking", Shallow())


# --- a success ---------------------------------------------------------------------------------------------------------


def law_no_success_is_invented(*script: str) -> None:
    given, left = list[object](), list(script)

    def charge() -> object:
        line = left.pop(0)
        if line == "fail":
            raise ConnectionResetError
        if line == "no":
            raise Answered(402)
        given.append(object())
        return given[-1]

    pipeline = retrying("acme", effect=Effect.IDEMPOTENT, key=lambda: "pay_1")
    pipeline.inquiry(schedule=(0,))(lambda: NotFound())  # noqa: PLW0108 - a class is no function that asks
    outcome = pipeline.outcome(charge)
    assert isinstance(outcome, Ok) is bool(given)
    assert not isinstance(outcome, Ok) or outcome.value is given[0]


@pytest.mark.parametrize("script", [["fail", "ok"], ["ok"], ["fail", "fail", "fail"], ["fail", "no"]], ids=str)
def test_no_success_is_ever_invented(script: list[str]) -> None:
    """The seventh law, of what there is by now: an Ok holds what the function or the inquiry gave, itself, or there is no Ok."""
    law_no_success_is_invented(*script)


def a_bad_end_is_answered_from_memory(patch: Patch) -> None:
    patch.setattr(ending, "unfortunate", always(Ok("paid, as last time")))


# --- a schedule --------------------------------------------------------------------------------------------------------


def test_a_schedule_that_fails_does_not_take_the_place_of_the_unknown() -> None:
    """A schedule of the caller's own raised after the call was sent, and its IndexError was all that anybody heard."""

    def broken(_: int) -> float:
        raise IndexError

    def charge() -> None:
        raise ConnectionResetError

    retry = Retry(attempts=3, backoff=Custom(broken))
    outcome = Pipeline("acme", retry, effect=Effect.IDEMPOTENT_BY_NATURE, listeners=[]).outcome(charge)
    assert isinstance(outcome, Unknown)
    assert "the schedule of waits failed" in str(outcome.error)


def a_schedule_that_fails_says_at_once(patch: Patch) -> None:
    patch.setattr(Custom, "wait", always((0.0, 0.0)))


@each_kill(
    *((every_no_is_the_providers, law_who_settles_a_doubt, Answered(status), Unknown) for status in (401, 404)),
    (every_no_is_the_providers, law_who_settles_a_doubt, httpx.InvalidURL("x"), Unknown),
    (no_no_is_the_providers, law_who_settles_a_doubt, Answered(402), Declined),
    (a_gates_no_leaves_a_doubt, test_a_gates_no_to_the_only_attempt_is_a_no),
    (whoever_has_a_key_hands_it_on, test_a_key_that_nobody_hands_on_joins_nothing),
    (an_inquiry_may_ask_about_itself, test_an_inquiry_guarded_by_its_own_pipeline_does_not_ask_about_itself, "asyncio"),
    (an_inquiry_may_ask_about_itself, test_an_inquiry_guarded_by_its_own_pipeline_does_not_ask_about_itself, "trio"),
    (an_inquiry_may_ask_about_itself, test_a_plain_inquiry_does_not_ask_about_itself_either),
    (a_bad_end_is_answered_from_memory, law_no_success_is_invented, "fail", "fail", "fail"),
    (a_schedule_that_fails_says_at_once, test_a_schedule_that_fails_does_not_take_the_place_of_the_unknown),
)
def test_its_saboteur_is_found_out(row: tuple[Any, ...]) -> None:
    kills(*row)
