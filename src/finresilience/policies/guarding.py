"""The face that every policy shows: decorator, call, outcome, each sync and async."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, Protocol, TypeVar, overload

from finresilience._checks import refuse
from finresilience.errors import DecorationError
from finresilience.policies.base import F, Policy
from finresilience.policies.decorate import Kind, bare, dress, inmost, kind_of, refuse_async, refuse_generator
from finresilience.policies.lanes import sync_lane
from finresilience.policies.shells import arun, run, settled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finresilience.classify.classifier import ErrorClassifier
    from finresilience.outcome import Outcome
    from finresilience.policies.plan import Plan

P = ParamSpec("P")
R = TypeVar("R")


class Decorator(Protocol):
    """Takes a callable and returns it guarded, with the same signature."""

    def __call__(self, fn: F, /) -> F:
        """Return `fn` guarded."""
        ...


def checked_rules(classify: ErrorClassifier | None) -> ErrorClassifier | None:
    """Return `classify` if it is None or can judge errors and answers."""
    if classify is not None and not all(hasattr(classify, part) for part in ("error", "value", "plain")):
        refuse("classify", classify, "an ErrorClassifier, such as http_classifier()")
    return classify


class Guarding(Policy):
    """A policy that guards calls by a plan of its own."""

    __slots__ = ("_own_plan",)

    role: ClassVar[str] = ""  # its name in the order of a pipeline
    _own_plan: Plan | None

    def _planned(self) -> Plan:
        """Return the plan of this policy standing alone."""
        raise NotImplementedError

    @property
    def _plan(self) -> Plan:
        if self._own_plan is None:
            self._own_plan = self._planned()
        return self._own_plan

    @overload
    def __call__(self, fn: F, /) -> F: ...
    @overload
    def __call__(self, /) -> Decorator: ...
    def __call__(self, fn: Any = None, /) -> Any:  # see the overloads
        """Return `fn` guarded: a plain or async function, a method, a generator where that makes sense.

        Raises:
            DecorationError: if it cannot be guarded; it is never left silently unguarded.
        """
        if fn is None:
            return self._decorate
        return self._decorate(fn)

    def _decorate(self, fn: F) -> F:
        kind = kind_of(fn)
        if kind in {Kind.GENERATOR, Kind.ASYNC_GENERATOR}:
            guarded = self._generator(fn, kind)
        elif kind is Kind.ASYNC:
            from finresilience.policies.alanes import async_lane

            guarded = async_lane(self._plan, inmost(fn, self._plan, awaits=True))
        else:
            self._check_sync()
            guarded = sync_lane(self._plan, inmost(fn, self._plan, awaits=False))
        dressed: Any = dress(guarded, fn, self._plan)
        return dressed  # type: ignore[no-any-return]  # it has the signature of fn, by construction

    def _check_sync(self) -> None:
        """Refuse plain functions where this policy cannot serve them."""

    def _generator(self, fn: Callable[..., Any], kind: Kind) -> Callable[..., Any]:
        name = getattr(fn, "__name__", type(fn).__name__)
        message = (
            f"{name} is {kind.value}, which {type(self).__name__} cannot guard: what it has yielded already cannot be taken back. "
            "Guard the call that each step makes, or use a lone CircuitBreaker."
        )
        raise DecorationError(message)

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn` guarded and return its answer, or raise as the laws of outcomes say.

        Raises:
            DecorationError: if `fn` is async: await `acall` instead.
        """
        refuse_async(fn, "call")
        self._check_sync()
        answer: R = settled(run(self._plan, inmost(bare(fn, self._plan), self._plan, awaits=False), args, kwargs))
        return answer

    async def acall(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn` guarded and return its answer, or raise as the laws of outcomes say."""
        refuse_generator(fn, "acall")
        answer: R = settled(await arun(self._plan, inmost(bare(fn, self._plan), self._plan, awaits=True), args, kwargs))
        return answer

    def outcome(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Outcome[R]:
        """Call `fn` guarded and return how it ended. Raises nothing but what is no `Exception`, and misuse.

        Raises:
            DecorationError: if `fn` is async: await `aoutcome` instead.
        """
        refuse_async(fn, "outcome")
        self._check_sync()
        return run(self._plan, inmost(bare(fn, self._plan), self._plan, awaits=False), args, kwargs)

    async def aoutcome(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> Outcome[R]:
        """Await `fn` guarded and return how it ended. Raises nothing but what is no `Exception`, and misuse."""
        refuse_generator(fn, "aoutcome")
        return await arun(self._plan, inmost(bare(fn, self._plan), self._plan, awaits=True), args, kwargs)
