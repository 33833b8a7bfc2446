"""What can be guarded is guarded, whatever its kind; what cannot is refused with a way out, never left silently unguarded."""

from __future__ import annotations

import asyncio
import gc
import inspect
import warnings
from functools import partial
from typing import Any

import pytest

from finresilience import (
    CircuitBreaker,
    CircuitOpenError,
    ConfigurationError,
    Constant,
    DecorationError,
    Effect,
    Failed,
    Ok,
    Pipeline,
    Refused,
    Retry,
    Timeout,
    UnknownOutcomeError,
)
from tests.laws.worlds import RULES, Down, Provider, both_loops, guarded, on, still


def retry(**more: Any) -> Retry:
    return Retry(attempts=3, backoff=Constant(0), classify=RULES, effect=Effect.IDEMPOTENT_BY_NATURE, clock=still(), listeners=[], **more)


def breaker(**more: Any) -> CircuitBreaker:
    return CircuitBreaker("acme", classify=RULES, consecutive_failures=1, clock=still(), listeners=[], **more)


def policies() -> list[Any]:
    return [breaker(), retry(), Timeout(2.0, clock=still()), guarded(clock=still()), breaker().per(lambda *_, **__: "acme", at_most=2)]


each_policy = pytest.mark.parametrize("make", range(5), ids=["breaker", "retry", "timeout", "pipeline", "per key"])


@each_policy
def test_a_plain_function_is_guarded(make: int) -> None:
    def charge(amount: int, *, currency: str = "EUR") -> str:
        return f"{amount} {currency}"

    assert policies()[make](charge)(5, currency="USD") == "5 USD"


@each_policy
@both_loops
def test_an_async_function_is_guarded_and_stays_a_coroutine_function(make: int, backend: str) -> None:
    async def charge(amount: int) -> int:
        return amount

    wrapped = (breaker(), Retry(attempts=2), Timeout(1.0), guarded(), breaker().per(lambda *_, **__: "a", at_most=2))[make](charge)
    assert inspect.iscoroutinefunction(wrapped)
    assert on(backend, wrapped, 5) == 5


def test_a_method_is_guarded_for_each_object() -> None:
    policy = retry()

    class Client:
        def __init__(self) -> None:
            self.provider = Provider(Down(), Down(), "paid")

        @policy
        def charge(self) -> Any:
            return self.provider.charge()

    first, second = Client(), Client()
    assert (first.charge(), second.charge()) == ("paid", "paid")
    assert (first.provider.attempts, second.provider.attempts) == (3, 3)


def test_a_policy_below_classmethod_and_staticmethod_guards() -> None:
    policy, provider = retry(), Provider(Down(), "a", Down(), "b")

    class Client:
        @classmethod
        @policy
        def of_class(cls) -> Any:
            return provider.charge()

        @staticmethod
        @policy
        def of_nobody() -> Any:
            return provider.charge()

    assert (Client.of_class(), Client.of_nobody(), provider.attempts) == ("a", "b", 4)


def test_a_partial_is_guarded_and_an_async_partial_is_seen_through() -> None:
    async def acharge(amount: int, currency: str) -> str:
        return f"{amount} {currency}"

    provider = Provider(Down(), "paid")
    assert retry()(partial(provider.charge, 5))() == "paid"
    wrapped = guarded()(partial(partial(acharge, 5), currency="EUR"))
    assert inspect.iscoroutinefunction(wrapped)
    assert on("asyncio", wrapped) == "5 EUR"


@both_loops
def test_an_object_with_an_async_call_is_async(backend: str) -> None:
    class Charge:
        attempts = 0

        async def __call__(self) -> str:
            self.attempts += 1
            if self.attempts == 1:
                raise Down
            return "paid"

    charge = Charge()
    assert on(backend, guarded()(charge)) == "paid"
    assert charge.attempts == 2


@each_policy
def test_a_lambda_that_returns_a_coroutine_is_an_error_and_the_coroutine_is_closed(make: int) -> None:
    made: list[Any] = []

    async def charge() -> str:
        return "unguarded"

    def hidden() -> Any:
        made.append(charge())
        return made[-1]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises((DecorationError, UnknownOutcomeError)) as caught:
            policies()[make](hidden)()
        if isinstance(caught.value, UnknownOutcomeError):
            assert isinstance(caught.value.__cause__, DecorationError)
        assert [inspect.getcoroutinestate(coroutine) for coroutine in made] == ["CORO_CLOSED"] * len(made)
        made.clear()
        del caught
        gc.collect()
    assert made == []


def test_a_decoration_error_is_a_type_error_and_a_configuration_error_is_not_needed_to_catch_it() -> None:
    assert issubclass(DecorationError, TypeError)


def test_a_lone_breaker_guards_a_generator_as_one_call() -> None:
    policy = breaker()

    @policy
    def pages(fail: bool) -> Any:
        got = yield 1
        if fail:
            raise Down
        return got

    def driven() -> Any:
        steps = pages(False)
        assert next(steps) == 1
        with pytest.raises(StopIteration) as stopped:
            steps.send("sent")
        return stopped.value.value

    assert inspect.isgeneratorfunction(pages)
    assert driven() == "sent"
    with pytest.raises(Down):
        list(pages(True))
    with pytest.raises(CircuitOpenError):
        next(pages(False))


@both_loops
def test_a_lone_breaker_guards_an_async_generator_as_one_call(backend: str) -> None:
    policy = breaker()
    closed: list[bool] = []

    @policy
    async def pages(fail: bool) -> Any:
        try:
            yield 1
            if fail:
                raise Down
            yield 2
        finally:
            closed.append(True)

    async def world() -> list[int]:
        items = [item async for item in pages(False)]
        with pytest.raises(Down):
            [item async for item in pages(True)]
        with pytest.raises(CircuitOpenError):
            [item async for item in pages(False)]
        return items

    assert on(backend, world) == [1, 2]
    assert closed == [True, True]
    assert inspect.isasyncgenfunction(pages)


@both_loops
def test_a_half_read_generator_gives_its_permit_back_when_closed(backend: str) -> None:
    clock = still()
    policy = CircuitBreaker("acme", consecutive_failures=1, half_open_calls=1, clock=clock, listeners=[])

    @policy
    def pages() -> Any:
        yield 1
        yield 2

    @policy
    async def apages() -> Any:
        yield 1
        yield 2

    async def read_one() -> None:
        steps = apages()
        async for _ in steps:
            break
        await steps.aclose()

    policy.trip(seconds=1)
    clock.advance(2)
    steps = pages()
    next(steps)
    steps.close()
    on(backend, read_one)
    assert list(pages()) == [1, 2]
    assert policy.state == "closed"


def test_a_pipeline_of_one_breaker_alone_guards_a_generator() -> None:
    @Pipeline("acme", breaker(), clock=still())
    def pages() -> Any:
        yield from (1, 2)

    assert list(pages()) == [1, 2]


@pytest.mark.parametrize("make", [1, 2, 3, 4], ids=["retry", "timeout", "pipeline", "per key"])
def test_other_policies_refuse_generators_and_say_what_to_do(make: int) -> None:
    def pages() -> Any:
        yield 1

    async def apages() -> Any:
        yield 1

    for steps in (pages, apages, partial(pages)):
        with pytest.raises(DecorationError, match=r"Guard the call that each step makes, or use a lone CircuitBreaker"):
            policies()[make](steps)


def nothing() -> None:
    """A function."""


@each_policy
@pytest.mark.parametrize(
    ("thing", "way_out"),
    [
        (classmethod(nothing), "below @classmethod"),
        (staticmethod(nothing), "below @staticmethod"),
        (property(nothing), "below @property"),
        (Provider, "guard the method"),
        (5, "nothing to guard"),
    ],
    ids=["classmethod", "staticmethod", "property", "class", "number"],
)
def test_what_would_be_left_unguarded_is_refused_with_a_way_out(make: int, thing: Any, way_out: str) -> None:
    with pytest.raises(DecorationError, match=way_out):
        policies()[make](thing)


@each_policy
def test_call_and_outcome_given_an_async_function_are_refused(make: int) -> None:
    async def charge() -> None: ...

    policy = policies()[make]
    with pytest.raises(DecorationError, match="await `acall` instead"):
        policy.call(charge)
    with pytest.raises(TypeError, match="await `aoutcome` instead"):
        policy.outcome(charge)
    with pytest.raises(DecorationError):
        policy.call(partial(charge))


@each_policy
def test_with_and_without_parentheses(make: int) -> None:
    policy = policies()[make]

    @policy
    def first() -> int:
        return 1

    @policy()
    def second() -> int:
        return 2

    assert (first(), second()) == (1, 2)


@each_policy
def test_name_signature_and_docs_are_kept(make: int) -> None:
    def charge(amount: int, /, *, currency: str = "EUR") -> str:
        """Move money."""
        return currency

    wrapped = policies()[make](charge)
    assert inspect.signature(wrapped) == inspect.signature(charge)
    assert (wrapped.__name__, wrapped.__doc__, wrapped.__wrapped__) == ("charge", "Move money.", charge)
    assert wrapped.__qualname__ == charge.__qualname__


def test_an_already_decorated_function_is_not_guarded_twice() -> None:
    policy, provider = retry(), Provider(*[Down() for _ in range(20)])
    charge = policy(provider.charge)
    assert isinstance(policy.outcome(charge), Failed)
    assert provider.attempts == 3
    with pytest.raises(Down):
        policy.call(charge)
    assert provider.attempts == 6


@both_loops
def test_an_already_decorated_async_function_is_not_guarded_twice(backend: str) -> None:
    policy, provider = guarded(), Provider(*[Down() for _ in range(20)])
    charge = policy(provider.acharge)
    assert isinstance(on(backend, policy.aoutcome, charge), Failed)
    assert provider.attempts == 3


def test_an_already_decorated_method_is_not_guarded_twice_and_keeps_its_object() -> None:
    policy = retry()

    class Client:
        attempts = 0

        @policy
        def charge(self) -> Any:
            self.attempts += 1
            raise Down

    client = Client()
    assert isinstance(policy.outcome(client.charge), Failed)
    assert client.attempts == 3


@each_policy
def test_with_policy_is_refused_and_names_the_way_out(make: int) -> None:
    with pytest.raises(ConfigurationError, match=r"policy\.guard"):
        with policies()[make]:
            pass


@both_loops
def test_async_with_breaker_is_refused_and_names_the_way_out(backend: str) -> None:
    async def world() -> None:
        policy: Any = breaker()
        with pytest.raises((ConfigurationError, TypeError)):
            async with policy:
                pass

    on(backend, world)


def test_a_coroutine_of_a_guarded_function_can_be_a_task() -> None:
    async def charge() -> str:
        return "paid"

    wrapped = guarded()(charge)

    async def world() -> str:
        return await asyncio.create_task(wrapped())

    assert on("asyncio", world) == "paid"


@each_policy
@both_loops
def test_acall_and_aoutcome_agree_with_the_decorator(make: int, backend: str) -> None:
    async def charge(amount: int) -> int:
        return amount

    policy = (breaker(), Retry(attempts=2), Timeout(1.0), guarded(), breaker().per(lambda *_, **__: "a", at_most=2))[make]
    assert on(backend, policy.acall, charge, 5) == 5
    outcome = on(backend, policy.aoutcome, charge, 5)
    assert isinstance(outcome, Ok)
    assert outcome.unwrap() == 5


def test_an_open_breaker_refuses_every_form() -> None:
    policy = breaker()
    policy.force_open()

    async def charge() -> None: ...

    assert isinstance(policy.outcome(nothing), Refused)
    assert isinstance(on("asyncio", policy.aoutcome, charge), Refused)
    for form in (policy(nothing), partial(policy.call, nothing)):
        with pytest.raises(CircuitOpenError):
            form()
    with pytest.raises(CircuitOpenError):
        on("asyncio", policy(charge))
    with pytest.raises(CircuitOpenError):
        on("asyncio", policy.acall, charge)
    with pytest.raises(CircuitOpenError), policy.guard():
        pass
