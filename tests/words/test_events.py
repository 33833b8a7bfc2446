"""What can be observed is plain data: names, numbers and class names, never arguments, keys or messages."""

from __future__ import annotations

import pickle
from typing import Any, get_type_hints
from unittest.mock import ANY

import pytest

from finresilience import events
from finresilience.events import (
    CallAbandoned,
    CallRefused,
    CircuitChanged,
    Event,
    InquiryAnswered,
    LateResult,
    OutcomeUnknown,
    ProbeLost,
    RetriesExhausted,
    RetryScheduled,
    ThresholdCrossed,
)
from finresilience.outcome import UNKNOWN, Classification

SECRET = "4111111111111111"
KINDS = sorted(
    (kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)), key=lambda kind: kind.__name__
)
SAMPLES: dict[str, Any] = {
    "after": "open",
    "age": 12.5,
    "answer": "found",
    "arm": 2,
    "ask": 1,
    "attempt": 2,
    "attempts": 3,
    "before": "closed",
    "classification": UNKNOWN,
    "delay": 0.5,
    "end": "ok",
    "error_type": "ReadTimeout",
    "generation": 7,
    "instead_of": "Refused CircuitOpenError",
    "kind": "last_good",
    "last_failure": "ReadTimeout",
    "lease": 1.0,
    "name": "acme.charge",
    "open_for": 30.0,
    "ran": 1.5,
    "reason": "failure rate 60 %",
    "reference": "pay_1",
    "route": "acme",
    "source": "thread",
    "succeeded": True,
    "tried": ("acme", "globex"),
    "value": {"card": SECRET},
    "wait": 0.25,
    "won": True,
}


def declared(kind: type[Event]) -> dict[str, Any]:
    return get_type_hints(kind, {"Classification": Classification})


def sample(kind: type[Event], /, **more: Any) -> Event:
    return kind(**{field: SAMPLES[field] for field in declared(kind)} | more)


def other_than(value: object) -> object:
    return "else" if isinstance(value, str) else 1000


def test_every_event_is_known_here() -> None:
    assert {kind.__name__ for kind in KINDS} == {
        "Event",
        "BulkheadResized",
        "CallAbandoned",
        "CallHedged",
        "CallRefused",
        "CallRouted",
        "CircuitChanged",
        "FallbackUsed",
        "InquiryAnswered",
        "LateResult",
        "OutcomeUnknown",
        "PlaceLapsed",
        "ProbeLost",
        "RateChanged",
        "RetriesExhausted",
        "RetryScheduled",
        "RouteChanged",
        "SlotAwaited",
        "ThresholdCrossed",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_has_the_fields_that_it_declares_and_slots_for_no_more(kind: type[Event]) -> None:
    event = sample(kind)
    assert {field: getattr(event, field) for field in declared(kind)} == {field: SAMPLES[field] for field in declared(kind)}
    assert set(kind._fields()) == set(declared(kind))
    assert not hasattr(event, "__dict__")


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_without_one_of_its_fields_is_refused_by_that_name(kind: type[Event]) -> None:
    for missing in declared(kind):
        facts = {field: SAMPLES[field] for field in declared(kind) if field != missing}
        with pytest.raises(TypeError, match=f"{kind.__name__} needs its field '{missing}'"):
            kind(**facts)


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_with_a_field_too_many_is_refused_by_that_name(kind: type[Event]) -> None:
    with pytest.raises(TypeError, match=rf"{kind.__name__} has no field \['card'\]"):
        sample(kind, card=SECRET)


def test_a_field_is_given_by_its_name() -> None:
    make: Any = ProbeLost
    with pytest.raises(TypeError):
        make("acme", 7)


# ---------------------------------------------------------------- equality


def law_two_events_are_equal_exactly_when_every_shown_field_is(make: Any, kind: type[Event]) -> None:
    assert make(kind) == make(kind)
    assert hash(make(kind)) == hash(make(kind))
    for field in declared(kind):
        if field != "value":
            assert make(kind) != make(kind, **{field: other_than(SAMPLES[field])})


@pytest.mark.parametrize("kind", KINDS)
def test_two_events_are_equal_exactly_when_every_shown_field_is(kind: type[Event]) -> None:
    law_two_events_are_equal_exactly_when_every_shown_field_is(sample, kind)


class ByName:
    """The saboteur: the speaker is all it compares."""

    def __init__(self, kind: type[Event], /, **more: Any) -> None:
        self.event = sample(kind, **more)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByName) and self.event.name == other.event.name

    def __hash__(self) -> int:
        return hash(self.event.name)


def test_the_law_catches_events_that_are_equal_by_name() -> None:
    with pytest.raises(AssertionError):
        law_two_events_are_equal_exactly_when_every_shown_field_is(ByName, CircuitChanged)


def test_events_of_two_kinds_are_never_equal() -> None:
    made = [sample(kind) for kind in KINDS]
    assert len(set(made)) == len(KINDS)
    assert sample(ProbeLost) != "ProbeLost"
    assert sample(ProbeLost) == ANY


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_may_travel(kind: type[Event]) -> None:
    assert pickle.loads(pickle.dumps(sample(kind))) == sample(kind)


# ---------------------------------------------------------------- what is shown


def test_the_answer_of_a_late_result_is_never_shown() -> None:
    late = LateResult(name="acme", source="thread", succeeded=True, reference="pay_1", value={"card": SECRET})
    assert late.value == {"card": SECRET}
    assert SECRET not in repr(late) + str(late) + f"{[late]}"


@pytest.mark.parametrize("kind", KINDS)
def test_every_other_field_is_shown(kind: type[Event]) -> None:
    shown = repr(sample(kind))
    assert shown.startswith(f"{kind.__name__}(name='acme.charge'")
    assert {field for field in declared(kind) if f"{field}={SAMPLES[field]!r}" in shown} == set(declared(kind)) - {"value"}


def test_no_event_has_a_field_for_what_must_not_be_told() -> None:
    fields = {field for kind in KINDS for field in declared(kind)}
    assert not fields & {"key", "args", "kwargs", "error", "message", "exception", "idempotency_key"}
    assert {kind for kind in KINDS if "value" in declared(kind)} == {LateResult}


def test_an_event_of_ones_own_may_have_fields_or_none() -> None:
    class Paid(Event):
        __slots__ = ("amount",)

        amount: str

    class Quiet(Event):
        pass

    assert repr(Paid(name="acme", amount="5.00 USD")) == "Paid(name='acme', amount='5.00 USD')"
    assert Quiet(name="acme") == Quiet(name="acme")


def test_an_event_can_be_told_by_its_kind() -> None:
    told: list[Event] = [
        RetryScheduled(name="a", attempt=1, classification=UNKNOWN, error_type="E", delay=0.0, reference=None),
        RetriesExhausted(name="a", attempts=3, error_type="E", reason="every attempt is used up", reference=None),
        OutcomeUnknown(name="a", attempts=3, error_type="E", reference=None),
        CallAbandoned(name="a", attempt=1, ran=0.5, reference=None),
        CallRefused(name="a", reason="CircuitOpenError", reference=None),
        InquiryAnswered(name="a", ask=1, answer="found", reference=None),
        ThresholdCrossed(name="a", generation=1, reason="slow"),
    ]
    assert [event for event in told if isinstance(event, OutcomeUnknown | CallAbandoned)] == [told[2], told[3]]
