"""What was decorated elsewhere without being guarded: async callables, hidden coroutines, generators."""

from __future__ import annotations

import inspect
from functools import partial, wraps
from types import CoroutineType
from typing import TYPE_CHECKING, Any

import pytest

from finresilience import CircuitBreaker, CircuitOpenError, Constant, DecorationError, Effect, Pipeline, Retry, Timeout
from finresilience.policies import decorate, guarding
from finresilience.policies.decorate import MARK, Kind, kind_of
from tests.laws.sabotage import each_kill, kills
from tests.laws.worlds import RULES, Down, both_loops, on, still
from tests.regressions.sending import retrying

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


def breaker() -> CircuitBreaker:
    return CircuitBreaker("acme", consecutive_failures=1, classify=RULES, clock=still(), listeners=[])


class Charge:
    async def __call__(self) -> None:
        raise Down


async def charge(_: int) -> None:
    raise Down


@both_loops
@pytest.mark.parametrize("what", ["object", "partial"])
def test_what_is_async_by_its_class_or_inside_a_partial_is_guarded(backend: str, what: str) -> None:
    """An object with an async `__call__` was decorated without complaint, and its failures were never counted."""
    policy = breaker()
    guarded: Any = policy(Charge() if what == "object" else partial(charge, 5))

    async def world() -> None:
        with pytest.raises(Down):
            await guarded()
        with pytest.raises(CircuitOpenError):
            await guarded()

    on(backend, world)


def only_plain_async_functions_are_known(patch: pytest.MonkeyPatch) -> None:
    def by_flag(fn: Any) -> Kind:
        code = getattr(fn, "__code__", None)
        return Kind.ASYNC if code is not None and code.co_flags & inspect.CO_COROUTINE else Kind.SYNC

    patch.setattr(guarding, "kind_of", by_flag)


@pytest.mark.parametrize("form", ["call", "decorator"])
def test_a_function_that_returns_a_coroutine_is_an_error_and_not_an_answer(form: str) -> None:
    """A lambda round an async function counted as answered at once, whatever became of the coroutine it returned."""
    policy = Retry(attempts=1, clock=still(), listeners=[])
    made: list[Any] = []

    def hidden() -> Any:
        made.append(Charge()())
        return made[-1]

    try:
        with pytest.raises(Exception) as caught:
            policy.call(hidden) if form == "call" else policy(hidden)()
        assert DecorationError in {type(caught.value), type(caught.value.__cause__)}
        assert [inspect.getcoroutinestate(coroutine) for coroutine in made] == ["CORO_CLOSED"]
    finally:
        for coroutine in made:
            coroutine.close()


def a_coroutine_is_as_good_an_answer_as_any(patch: pytest.MonkeyPatch) -> None:
    planned = Retry._planned

    def lenient(self: Retry) -> Any:
        plan = planned(self)
        plan.plain |= {CoroutineType}
        return plan

    patch.setattr(Retry, "_planned", lenient)


def test_a_generator_is_guarded_by_a_circuit() -> None:
    """Generators were decorated without complaint: the call that makes one never fails, so nothing was ever counted."""
    policy = breaker()

    @policy
    def pages() -> Iterator[int]:
        yield 1
        raise Down

    with pytest.raises(Down):
        list(pages())
    with pytest.raises(CircuitOpenError):
        list(pages())


@both_loops
def test_an_async_generator_is_guarded_by_a_circuit(backend: str) -> None:
    """Async generators were decorated without complaint, and nothing of what they raised was ever counted."""
    policy = breaker()

    @policy
    async def pages() -> AsyncIterator[int]:
        yield 1
        raise Down

    async def world() -> None:
        with pytest.raises(Down):
            [page async for page in pages()]
        with pytest.raises(CircuitOpenError):
            [page async for page in pages()]

    on(backend, world)


@pytest.mark.parametrize("policy", ["retry", "timeout", "pipeline"])
def test_a_generator_that_cannot_be_guarded_is_refused_and_not_left_alone(policy: str) -> None:
    """Policies that cannot guard a generator took it all the same, and did nothing."""
    retry = Retry(attempts=2, backoff=Constant(0), clock=still())
    made = {
        "retry": retry,
        "timeout": Timeout(1.0, clock=still()),
        "pipeline": Pipeline("acme", breaker(), retry, effect=Effect.READ, clock=still()),
    }[policy]

    def pages() -> Iterator[int]:
        yield 1

    async def apages() -> AsyncIterator[int]:
        yield 1

    for generator in (pages, apages):
        with pytest.raises(DecorationError):
            made(generator)


def generators_pass_for_plain_functions(patch: pytest.MonkeyPatch) -> None:
    def blind(fn: object) -> Kind:
        return Kind.ASYNC if inspect.iscoroutinefunction(fn) else Kind.SYNC

    patch.setattr(guarding, "kind_of", blind)


# --- what call is given ------------------------------------------------------------------------------------------------


def test_a_wrapper_round_a_guarded_function_is_not_left_out() -> None:
    """`functools.wraps` copies our mark, and `call` took the wrapper for the function inside: its check for repeats was skipped."""
    pipeline, charged = retrying(), list[str]()

    def once(fn: Any) -> Any:
        @wraps(fn)
        def checked(payment: str) -> str:
            return "duplicate" if payment in charged else fn(payment)

        return checked

    def charge(payment: str) -> str:
        charged.append(payment)
        return "paid"

    guarded = once(pipeline(charge))
    assert [guarded("p1"), pipeline.call(guarded, "p1"), pipeline.outcome(guarded, "p1").unwrap()] == ["paid", "duplicate", "duplicate"]
    assert charged == ["p1"]


def whoever_has_the_mark_is_ours(patch: pytest.MonkeyPatch) -> None:
    def bare(fn: Any, plan: object) -> Any:
        return getattr(fn, MARK, (plan, fn))[1]

    patch.setattr(guarding, "bare", bare)


@both_loops
def test_a_generator_is_no_call(backend: str) -> None:
    def steps() -> Any:
        yield 1

    async def asteps() -> AsyncIterator[int]:
        yield 1

    for policy in (retrying(), CircuitBreaker("acme", listeners=[])):
        for call in (policy.call, policy.outcome):
            with pytest.raises(DecorationError, match="whose steps nobody would guard"):
                call(steps)
        for acall in (policy.acall, policy.aoutcome):
            with pytest.raises(DecorationError, match="whose steps nobody would guard"):
                on(backend, acall, asteps)


def a_generator_is_called_like_any_function(patch: pytest.MonkeyPatch) -> None:
    def refuse_nothing(fn: object, method: str) -> Kind:
        return kind_of(fn)

    for module in (guarding, decorate):
        patch.setattr(module, "refuse_generator", refuse_nothing)


UNGUARDED = only_plain_async_functions_are_known, test_what_is_async_by_its_class_or_inside_a_partial_is_guarded


@each_kill(
    (*UNGUARDED, "asyncio", "object"),
    (*UNGUARDED, "asyncio", "partial"),
    (*UNGUARDED, "trio", "object"),
    (*UNGUARDED, "trio", "partial"),
    (a_coroutine_is_as_good_an_answer_as_any, test_a_function_that_returns_a_coroutine_is_an_error_and_not_an_answer, "call"),
    (a_coroutine_is_as_good_an_answer_as_any, test_a_function_that_returns_a_coroutine_is_an_error_and_not_an_answer, "decorator"),
    (generators_pass_for_plain_functions, test_a_generator_is_guarded_by_a_circuit),
    (generators_pass_for_plain_functions, test_an_async_generator_is_guarded_by_a_circuit, "asyncio"),
    (generators_pass_for_plain_functions, test_an_async_generator_is_guarded_by_a_circuit, "trio"),
    (generators_pass_for_plain_functions, test_a_generator_that_cannot_be_guarded_is_refused_and_not_left_alone, "retry"),
    (generators_pass_for_plain_functions, test_a_generator_that_cannot_be_guarded_is_refused_and_not_left_alone, "timeout"),
    (generators_pass_for_plain_functions, test_a_generator_that_cannot_be_guarded_is_refused_and_not_left_alone, "pipeline"),
    (whoever_has_the_mark_is_ours, test_a_wrapper_round_a_guarded_function_is_not_left_out),
    (a_generator_is_called_like_any_function, test_a_generator_is_no_call, "asyncio"),
    (a_generator_is_called_like_any_function, test_a_generator_is_no_call, "trio"),
)
def test_its_saboteur_is_found_out(row: tuple[Any, ...]) -> None:
    kills(*row)
