"""What kind of callable is this, and can it be guarded? Refuse what would be silently unguarded."""

from __future__ import annotations

from enum import Enum
from functools import partial, update_wrapper
from typing import TYPE_CHECKING, Any, final
from weakref import ref

from finresilience.errors import DecorationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.policies.plan import Plan

MARK = "__finresilience__"  # on a guarded function: (the plan that guards it, the function inside, a reference to itself)


@final
class Kind(Enum):
    """How a callable gives its answer."""

    SYNC = "a plain function"
    ASYNC = "an async function"
    GENERATOR = "a generator"
    ASYNC_GENERATOR = "an async generator"


def kind_of(fn: object) -> Kind:
    """Return how `fn` answers.

    Raises:
        DecorationError: if it is a classmethod or staticmethod object, a class, or not callable: the policy must then sit
            closer to the function.
    """
    if isinstance(fn, classmethod | staticmethod):
        kind = type(fn).__name__
        message = f"put the policy below @{kind}, next to the function: a {kind} object above it would be left unguarded"
        raise DecorationError(message)
    if isinstance(fn, property):
        message = "put the policy below @property, next to the function"
        raise DecorationError(message)
    if isinstance(fn, type):
        message = f"{fn.__qualname__} is a class: guard the method that makes the call, not the constructor"
        raise DecorationError(message)
    if not callable(fn):
        message = f"a {type(fn).__name__} is not callable, so there is nothing to guard"
        raise DecorationError(message)
    return _flavour(fn)


def _flavour(fn: Any) -> Kind:
    import inspect

    while isinstance(fn, partial):
        whole: Any = fn
        fn = whole.func
    looks = (fn, getattr(type(fn), "__call__", None))  # an object may hide its kind in its class  # noqa: B004 - we want the method itself
    if any(inspect.iscoroutinefunction(look) for look in looks):
        return Kind.ASYNC
    if any(inspect.isasyncgenfunction(look) for look in looks):
        return Kind.ASYNC_GENERATOR
    if any(inspect.isgeneratorfunction(look) for look in looks):
        return Kind.GENERATOR
    return Kind.SYNC


def dress(wrapper: Callable[..., Any], fn: Callable[..., Any], plan: object) -> Callable[..., Any]:
    """Give `wrapper` the name, signature and docs of `fn`, and the mark of who guards it."""
    update_wrapper(wrapper, fn)
    setattr(wrapper, MARK, (plan, fn, ref(wrapper)))
    return wrapper


def bare(fn: Callable[..., Any], plan: object) -> Callable[..., Any]:
    """Return the function inside, if this very plan guards it already; so nothing is guarded twice."""
    mark = getattr(fn, MARK, None)
    # A wrapper made by `functools.wraps` has a copy of the mark: it does something of its own, which must not be left out.
    if mark is None or mark[0] is not plan or mark[2]() is not getattr(fn, "__func__", fn):
        return fn
    owner = getattr(fn, "__self__", None)
    inner: Callable[..., Any] = mark[1]
    return inner if owner is None else partial(inner, owner)


def inmost(fn: Callable[..., Any], plan: Plan, *, awaits: bool) -> Callable[..., Any]:
    """Return what this plan calls for a function that it does not guard yet: `fn`, or its innermost policy round it."""
    return fn if plan.innermost is None else plan.innermost.around_function(fn, plan.owner.name, awaits=awaits)


def refuse_generator(fn: object, method: str) -> Kind:
    """Raise `DecorationError` where a generator was given to a method that makes one call, and return what else it is."""
    kind = kind_of(fn)
    if kind in {Kind.GENERATOR, Kind.ASYNC_GENERATOR}:
        message = (
            f"`{method}` was given {kind.value}, whose steps nobody would guard: decorate it with a lone CircuitBreaker, or guard each step"
        )
        raise DecorationError(message)
    return kind


def refuse_async(fn: object, method: str) -> None:
    """Raise `DecorationError` where an async function or a generator was given to a sync method."""
    if refuse_generator(fn, method) is Kind.ASYNC:
        message = f"`{method}` was given an async function: await `a{method}` instead"
        raise DecorationError(message)


def not_a_value(name: str, value: object) -> DecorationError:
    """Return the error for a plain function that returned something to be awaited: what it does later would be unguarded."""
    close = getattr(value, "close", None)
    if close is not None and type(value).__name__ == "coroutine":
        close()
    return DecorationError(
        f"{name} guards a plain function, but it returned a {type(value).__name__} to be awaited, which nobody would guard. "
        "Make the function `async def`, or await inside it."
    )
