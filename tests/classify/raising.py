"""Errors for the tests of this room: of any class, with any facts, from any cause, and thrown through any frames."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

E = TypeVar("E", bound=BaseException)


class AcmeError(Exception):
    pass


class AcmeDown(AcmeError):
    pass


class AcmeSomewhatDown(AcmeDown):
    pass


def saying(error: E, **facts: object) -> E:
    """Give an error attributes, as client libraries do."""
    for name, fact in facts.items():
        setattr(error, name, fact)
    return error


def raised_from(*chain: Any) -> Any:
    """Chain errors, each raised from the next one, and return the first."""
    for outer, inner in itertools.pairwise(chain):
        outer.__cause__ = inner
    return chain[0]


def exploding(*_: object) -> Any:
    raise ZeroDivisionError


def thrown(error: E, *through: tuple[str, str], **local: object) -> E:
    """Raise and catch `error` in functions of these modules and names, outermost first, so that its traceback has them."""

    def raising() -> None:
        raise error

    call: Callable[[], object] = raising
    error.__traceback__ = None
    for module, name in reversed(through):
        scope: dict[str, Any] = {"__name__": module, "call": call}
        exec(f"def {name}({', '.join(local)}):\n    call()", scope)  # a frame is known by its module's name and its code's name
        call = _bound(scope[name], local)
    try:
        call()
    except BaseException as caught:
        assert caught is error
    return error


def _bound(function: Callable[..., object], local: dict[str, object]) -> Callable[[], object]:
    return lambda: function(**local)
