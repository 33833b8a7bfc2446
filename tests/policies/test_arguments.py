"""An argument that cannot work is refused where the policy is made, by name; an order or a function that cannot, with the way out."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from functools import partial
from math import inf, nan
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

from finresilience import (
    CircuitBreaker,
    ConfigurationError,
    Constant,
    CountWindow,
    DecorationError,
    Effect,
    ErrorClassifier,
    FailureRate,
    FullJitter,
    OpenFor,
    Pipeline,
    RatioBudget,
    Registry,
    Retry,
    StillUnknown,
    Timeout,
    TimeWindow,
    TokenBudget,
    attempt_budget,
    deadline,
    idempotency_key,
)
from tests.laws.worlds import Provider, still

if TYPE_CHECKING:
    from collections.abc import Callable

STRANGE: list[Any] = [True, False, "1", b"1", [1], object(), 1 + 0j, Decimal(1)]
NO_NUMBER: list[Any] = [*STRANGE, nan, -1, -0.1, -inf]
SECONDS: list[Any] = [*NO_NUMBER, inf, 10**400, 0, timedelta(0), timedelta(seconds=-1)]
SECONDS_OR_ZERO: list[Any] = [*NO_NUMBER, inf, timedelta(seconds=-1)]
COUNT: list[Any] = [*NO_NUMBER, 0, 1.0, 2.5, 10**10]
SHARE: list[Any] = [*NO_NUMBER, 0, 0.0, 1.0001, 2, inf]
OBJECTS: list[Any] = [5, "x", object(), [1]]
NAMES: list[Any] = [None, 5, b"acme", "", "  ", "a\nb", "x" * 201]

Case = tuple[str, list[Any], "Callable[[Any], object]"]


def of(kind: Callable[..., object], name: str, **more: Any) -> Callable[[Any], object]:
    return lambda value: kind(**{name: value}, **more)


def breaker(**settings: Any) -> CircuitBreaker:
    given: dict[str, Any] = {"name": "acme"} | settings
    return CircuitBreaker(**given)


def retry(**settings: Any) -> Retry:
    given: dict[str, Any] = {"attempts": 3} | settings
    return Retry(**given)


def timeout(**settings: Any) -> Timeout:
    given: dict[str, Any] = {"seconds": 2.0} | settings
    return Timeout(**given)


def pipeline(**settings: Any) -> Pipeline:
    return Pipeline(settings.pop("name", "acme"), **settings)


CASES: list[Case] = [
    *[("name", NAMES, of(kind, "name")) for kind in (breaker, retry, timeout, pipeline)],
    ("window", OBJECTS, of(breaker, "window")),
    ("failure_rate", SHARE, of(breaker, "failure_rate")),
    ("minimum_calls", COUNT, of(breaker, "minimum_calls")),
    ("failure_count", COUNT, of(breaker, "failure_count")),
    ("consecutive_failures", COUNT, of(breaker, "consecutive_failures")),
    ("slow_rate", SHARE, of(breaker, "slow_rate", slow_after=1.0)),
    ("slow_after", SECONDS, of(breaker, "slow_after", slow_rate=0.5)),
    ("rules", [[5], ["x"], [object()]], of(breaker, "rules")),
    ("open_for", SECONDS, of(breaker, "open_for")),
    ("half_open_calls", [*COUNT, 10_001], of(breaker, "half_open_calls")),
    ("probe_lease", SECONDS, of(breaker, "probe_lease")),
    ("attempts", [*COUNT, 1001, None], of(retry, "attempts")),
    ("backoff", OBJECTS, of(retry, "backoff")),
    ("max_elapsed", SECONDS, of(retry, "max_elapsed")),
    ("max_retry_after", SECONDS_OR_ZERO, of(retry, "max_retry_after")),
    ("budget", OBJECTS, of(retry, "budget")),
    ("retry_result", OBJECTS, of(retry, "retry_result")),
    ("effect", [*OBJECTS, "read"], of(retry, "effect")),
    ("seconds", [*SECONDS, None], of(timeout, "seconds")),
    ("exact", [None, 0, 1, "yes"], of(timeout, "exact")),
    ("thread_limit", [*COUNT, 10_001], of(timeout, "thread_limit")),
    ("effect", [*OBJECTS, "read"], of(timeout, "effect")),
    ("deadline", SECONDS, of(pipeline, "deadline")),
    ("effect", [*OBJECTS, "read", None], of(pipeline, "effect")),
    ("key", OBJECTS, of(pipeline, "key")),
    ("reference", OBJECTS, of(pipeline, "reference")),
    ("inner_attempts", [*COUNT, 1001, None], of(pipeline, "inner_attempts")),
    ("marks_sent", [*OBJECTS, None, 1], of(pipeline, "marks_sent")),
    ("allow_order", [*OBJECTS, None, 1], of(pipeline, "allow_order")),
    *[("clock", OBJECTS, of(kind, "clock")) for kind in (breaker, retry, timeout, pipeline)],
    *[("classify", OBJECTS, of(kind, "classify")) for kind in (breaker, retry, timeout, pipeline)],
    *[("chance", [0.5, "x", None], of(kind, "chance")) for kind in (breaker, retry)],
    ("at_most", [*COUNT, None], of(Registry, "at_most")),
    ("make", OBJECTS, of(Registry, "make")),
    ("deadline", [*SECONDS, None], deadline),
    ("retries", [*NO_NUMBER, 1.0, None], attempt_budget),
]


@pytest.mark.parametrize(("name", "values", "make"), CASES, ids=[f"{at}-{case[0]}" for at, case in enumerate(CASES)])
def test_a_bad_argument_is_refused_by_name(name: str, values: list[Any], make: Callable[[Any], object]) -> None:
    for value in values:
        with pytest.raises(ConfigurationError, match=rf"^{name}=.* cannot work: give "):
            make(value)


ANYTHING = st.one_of(
    st.floats(), st.integers(), st.booleans(), st.none(), st.text(max_size=5), st.timedeltas(), st.binary(max_size=3), st.complex_numbers()
)


@given(ANYTHING, st.sampled_from(CASES))
def test_an_argument_is_taken_or_refused_by_name_and_nothing_else_happens(value: object, case: Case) -> None:
    name, _, make = case
    if name == "rules":
        return  # an iterable: the next test
    try:
        make(value)
    except ConfigurationError as refused:
        assert str(refused).startswith((f"{name}=", "slow_rate and slow_after belong together"))


@given(st.lists(ANYTHING, max_size=3))
def test_rules_and_listeners_are_taken_or_refused_by_name_and_nothing_else_happens(values: list[object]) -> None:
    for make, names in ((of(breaker, "rules"), "rules"), (of(timeout, "listeners"), "listeners")):
        try:
            make(values)
        except ConfigurationError as refused:
            assert str(refused).startswith(names)
        else:
            assert values == []


@pytest.mark.parametrize("make", [breaker, retry, timeout, pipeline])
def test_a_listener_that_cannot_hear_is_refused(make: Callable[..., object]) -> None:
    with pytest.raises(ConfigurationError, match=r"^listeners must be callables that take one event, not a str"):
        make(listeners=["log"])


@pytest.mark.parametrize("key", [None, 5, "", "  ", b"pay_1"], ids=repr)
def test_an_unusable_key_is_refused_and_never_shown(key: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^an idempotency key must be a non-empty str"):
        idempotency_key(key)


def test_what_is_good_is_taken() -> None:
    rules = ErrorClassifier({})
    breaker(window=TimeWindow(5), failure_rate=1, minimum_calls=1, rules=[FailureRate(0.9)], open_for=OpenFor(5), classify=rules)
    breaker(window=CountWindow(5), slow_rate=0.5, slow_after=timedelta(seconds=1), open_for=timedelta(minutes=20), clock=still())
    retry(backoff=FullJitter(0.1), max_elapsed=timedelta(seconds=5), max_retry_after=0, budget=TokenBudget(), effect=Effect.READ)
    retry(budget=RatioBudget(), retry_result=bool, name="again")
    timeout(seconds=timedelta(seconds=2), exact=True, thread_limit=10_000, classify=rules)
    pipeline(deadline=timedelta(seconds=3), key=str, reference=str, inner_attempts=1000, listeners=())


@pytest.mark.parametrize("settings", [{"slow_rate": 0.5}, {"slow_after": 1.0}], ids=str)
def test_what_belongs_together_is_given_together(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="slow_rate and slow_after belong together"):
        breaker(**settings)


def test_what_could_do_harm_has_no_default() -> None:
    makers: list[Any] = [Retry, Timeout, partial(breaker().per, str)]
    for make in makers:
        with pytest.raises(TypeError, match="missing 1 required"):
            make()


# --- the order of a pipeline ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policies", "reason"),
    [
        ((retry(), breaker()), "CircuitBreaker belongs outside Retry: an open circuit must not be retried against"),
        ((timeout(), retry()), "Retry belongs outside Timeout: each attempt needs a limit of its own"),
        ((timeout(), breaker()), "CircuitBreaker belongs outside Timeout"),
        ((retry(), breaker().per(str, at_most=2)), "CircuitBreaker belongs outside Retry"),
        ((breaker(), timeout(), retry()), "Retry belongs outside Timeout"),
    ],
)
def test_a_dangerous_order_is_refused_with_its_reason_and_taken_if_you_insist(policies: tuple[Any, ...], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        Pipeline("acme", *policies)
    assert Pipeline("acme", *policies, allow_order=True, clock=still()).call(Provider().charge, "pay_1") == "ok"


@pytest.mark.parametrize(
    "policies",
    [(breaker(), breaker()), (breaker(), breaker().per(str, at_most=2)), (retry(), retry()), (timeout(), retry(), timeout())],
    ids=["breakers", "breaker and family", "retries", "timeouts"],
)
def test_two_of_a_kind_are_refused_even_if_you_insist(policies: tuple[Any, ...]) -> None:
    for insist in (False, True):
        with pytest.raises(ConfigurationError, match="in one pipeline: put the second into a pipeline of its own"):
            Pipeline("acme", *policies, allow_order=insist)


@pytest.mark.parametrize("thing", [5, "Retry", Retry, Constant(1), None, Registry(), Pipeline("inner")], ids=repr)
def test_what_is_no_policy_of_a_pipeline_is_refused(thing: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"a Pipeline takes policies \(Fallback, .*, Bulkhead, Timeout\), outermost first, not a "):
        Pipeline("acme", thing)


@pytest.mark.parametrize(
    "policy",
    [retry(effect=Effect.READ), retry(classify=ErrorClassifier({})), timeout(effect=Effect.READ)],
    ids=str.split("effect classify limit"),
)
def test_rules_are_given_to_the_pipeline_once(policy: Any) -> None:
    with pytest.raises(ConfigurationError, match="give them to the Pipeline, once, and its policies inherit them"):
        Pipeline("acme", policy)


def test_a_breaker_keeps_rules_of_its_own_for_calls_outside_the_pipeline() -> None:
    assert Pipeline("acme", breaker(classify=ErrorClassifier({})), clock=still()).call(lambda: "ok") == "ok"


# --- keys and references -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "", " ", 5, b"pay_1"], ids=repr)
def test_a_key_function_that_gives_no_key_stops_the_call(key: Any) -> None:
    provider = Provider()
    with pytest.raises(ConfigurationError, match="an idempotency key must be a non-empty str"):
        pipeline(effect=Effect.IDEMPOTENT, key=lambda: key, clock=still()).call(provider.charge)
    assert provider.attempts == 0


def test_a_reference_is_a_str_or_nothing() -> None:
    provider = Provider()
    number: Any = lambda: 5  # noqa: E731 - the whole of it
    with pytest.raises(ConfigurationError, match="reference= must give your own reference as a str or None, not a int"):
        pipeline(reference=number, clock=still()).call(provider.charge)
    assert provider.attempts == 0
    assert pipeline(reference=lambda: None, clock=still()).call(provider.charge) == "ok"


# --- functions -----------------------------------------------------------------------------------------------------


def test_a_policy_above_classmethod_is_refused_where_the_class_is_written() -> None:
    guard: Any = retry()

    def charge(cls: type) -> None: ...

    with pytest.raises(DecorationError, match="put the policy below @classmethod"):
        type("Client", (), {"charge": guard(classmethod(charge))})


def test_an_inquiry_that_is_no_function_is_refused() -> None:
    for thing in (5, "find", StillUnknown, staticmethod(Provider().charge)):
        nothing: Any = thing
        with pytest.raises(DecorationError):
            pipeline().inquiry(schedule=(1,))(nothing)
