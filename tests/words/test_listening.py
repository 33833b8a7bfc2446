"""Listeners hear everything and can break nothing; with none at all, the log says what a person should know."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from finresilience.events import (
    CallAbandoned,
    CallRefused,
    CircuitChanged,
    Event,
    LateResult,
    OutcomeUnknown,
    ProbeLost,
    Publisher,
    RetriesExhausted,
    log_event,
)

if TYPE_CHECKING:
    from collections.abc import Callable

LOST = ProbeLost(name="acme", generation=1)


class AcmeError(Exception):
    pass


def raising(error: BaseException) -> Any:
    def listen(_: Event) -> None:
        raise error

    return listen


def law_a_listener_that_raises_silences_nobody_and_is_counted(make: Callable[[tuple[Any, ...]], Any]) -> None:
    heard: list[Event] = []
    publish = make((raising(AcmeError()), heard.append, raising(AcmeError()), heard.append))
    publish(LOST)
    publish(LOST)
    assert heard == [LOST] * 4
    assert publish.failures == 4


def test_a_listener_that_raises_silences_nobody_and_is_counted() -> None:
    law_a_listener_that_raises_silences_nobody_and_is_counted(Publisher)


class Trusting:
    """The saboteur: it calls them one after the other."""

    def __init__(self, listeners: tuple[Any, ...]) -> None:
        self.listeners, self.failures = listeners, 0

    def __call__(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)


class Swallowing(Trusting):
    """Another: it contains and does not count."""

    def __call__(self, event: Event) -> None:
        for listener in self.listeners:
            try:
                listener(event)
            except AcmeError:
                pass


@pytest.mark.parametrize(("saboteur", "shows"), [(Trusting, AcmeError), (Swallowing, AssertionError)])
def test_the_law_catches_the_trusting_and_the_swallowing(saboteur: Any, shows: type[Exception]) -> None:
    with pytest.raises(shows):
        law_a_listener_that_raises_silences_nobody_and_is_counted(saboteur)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interruption_passes_through_a_listener_and_is_no_failure(interruption: type[BaseException]) -> None:
    publish = Publisher((raising(interruption()),))
    with pytest.raises(interruption):
        publish(LOST)
    assert publish.failures == 0


async def test_a_cancellation_passes_through_a_listener_and_is_no_failure() -> None:
    publish = Publisher(())
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await anyio.lowlevel.checkpoint()
        except anyio.get_cancelled_exc_class() as cancellation:
            publish = Publisher((raising(cancellation),))
            publish(LOST)
    assert (scope.cancelled_caught, publish.failures) == (True, 0)


def test_listeners_are_told_in_their_order() -> None:
    heard: list[str] = []
    Publisher((lambda _: heard.append("first"), lambda _: heard.append("second")))(LOST)
    assert heard == ["first", "second"]


def test_refusals_are_told_only_where_somebody_besides_the_log_listens() -> None:
    assert not Publisher(()).wants_all
    assert not Publisher((log_event,)).wants_all
    assert Publisher((log_event, print)).wants_all


# ---------------------------------------------------------------- the log


def logged(caplog: pytest.LogCaptureFixture, event: Event) -> list[str]:
    caplog.clear()
    log_event(event)
    return [record.getMessage() for record in caplog.records if record.name == "finresilience"]


def changed(**more: Any) -> CircuitChanged:
    facts: dict[str, Any] = {"before": "closed", "after": "open", "generation": 2, "reason": "failure rate 60 %", "open_for": 30.0}
    return CircuitChanged(name="acme", last_failure="ReadTimeout", **facts | more)


def sentences() -> list[tuple[Event, str]]:
    return [
        (changed(), "acme: circuit closed -> open for 30.0 s (failure rate 60 %)"),
        (changed(after="closed", before="half_open", open_for=None, reason="2 of 2"), "acme: circuit half_open -> closed (2 of 2)"),
        (
            OutcomeUnknown(name="acme", attempts=2, error_type="ReadTimeout", reference=None),
            "acme: outcome unknown after 2 attempt(s), last ReadTimeout; it may have happened",
        ),
        (
            RetriesExhausted(name="acme", attempts=3, error_type="Down", reason="every attempt is used up", reference="pay_1"),
            "acme: gave up after 3 attempt(s), last Down: every attempt is used up [reference pay_1]",
        ),
        (
            CallAbandoned(name="acme", attempt=1, ran=1.5, reference="pay_1"),
            "acme: abandoned 1.500 s into attempt 1; it may have happened [reference pay_1]",
        ),
    ]


@pytest.mark.parametrize("number", range(5))
def test_the_log_says_in_one_sentence_what_a_person_should_know(caplog: pytest.LogCaptureFixture, number: int) -> None:
    event, sentence = sentences()[number]
    assert logged(caplog, event) == [sentence]


def test_the_log_warns_and_carries_the_event(caplog: pytest.LogCaptureFixture) -> None:
    log_event(changed())
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert vars(record)["finresilience_event"] == changed()


def test_the_log_is_silent_about_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    late = LateResult(name="acme", source="thread", succeeded=True, reference=None, value=1)
    for event in (LOST, late, CallRefused(name="acme", reason="CircuitOpenError", reference=None)):
        assert logged(caplog, event) == []


@pytest.mark.parametrize("reference", ["pay_1\nERROR root: all is paid", "pay_1\r", "\x1b[2Jpay_1", "pay\u2028_1"], ids=ascii)
def test_a_reference_cannot_write_a_line_of_its_own(caplog: pytest.LogCaptureFixture, reference: str) -> None:
    (message,) = logged(caplog, OutcomeUnknown(name="acme", attempts=1, error_type="E", reference=reference))
    assert message.isprintable()
    assert message.endswith(f" [reference {reference!r}]")
