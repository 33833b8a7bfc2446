"""What is a law? A sentence, and a function that any test runner can call, made of an async method that knows no runner."""

from __future__ import annotations

from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final, final, overload

from finresilience.errors import ConfigurationError
from finresilience.testing.errors import CounterexampleError
from finresilience.testing.stories import root_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    Caller = Callable[[], Coroutine[Any, Any, object]]
    Race = tuple[Sequence[Caller], Caller]
    Law = Callable[[Any, Any], Coroutine[Any, Any, None]]
    RaceLaw = Callable[[Any, Any], Coroutine[Any, Any, Race]]

_SILENT: Final = ("state.every_", "state.teardown")  # steps of a machine that do nothing to the store


@final
class ContractError(ConfigurationError):
    """The contract itself is used in a way that can prove nothing; the message says what to do."""


@final
class BrokenLawError(AssertionError):
    """A store breaks a law. The first line is the law, the rest what was seen.

    Attributes:
        law: the name of the test.
        sentence: what must hold.
    """

    def __init__(self, store: str, law: str, sentence: str, seen: str) -> None:
        super().__init__(f"{store} breaks a law: {sentence}\n  {seen}")
        self.law: str = law
        self.sentence: str = sentence


async def ask(answer: Any) -> Any:
    """Return what a store answers, sync or async."""
    return await answer if isawaitable(answer) else answer


@overload
def law(body: Law, /) -> Callable[[Any], None]: ...
@overload
def law(*, needs: str) -> Callable[[Law], Callable[[Any], None]]: ...
def law(body: Law | None = None, /, *, needs: str = "") -> Any:
    """Make a law of an async method that is given a fresh store. `needs` names the flag of the contract without which it is left out."""
    return partial(_made, runner="run_law", needs=needs) if body is None else _made(body, runner="run_law", needs=needs)


@overload
def race(body: RaceLaw, /) -> Callable[[Any], None]: ...
@overload
def race(*, needs: str) -> Callable[[RaceLaw], Callable[[Any], None]]: ...
def race(body: RaceLaw | None = None, /, *, needs: str = "") -> Any:
    """Make a law of an async method that is given a fresh store and returns (callers, check), all of them async functions."""
    return partial(_made, runner="run_race", needs=needs) if body is None else _made(body, runner="run_race", needs=needs)


@overload
def machine(body: Callable[[Any], None], /) -> Callable[[Any], None]: ...
@overload
def machine(*, needs: str) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]: ...
def machine(body: Callable[[Any], None] | None = None, /, *, needs: str = "") -> Any:
    """Make a law of a plain method that drives the stores it makes by itself."""
    return partial(_made, runner="", needs=needs) if body is None else _made(body, runner="", needs=needs)


def _made(body: Any, *, runner: str, needs: str) -> Callable[[Any], None]:
    sentence = (body.__doc__ or "").strip().splitlines()[0]

    def test(self: Any) -> None:
        __tracebackhide__ = True
        if not __debug__:
            raise ContractError("Python runs with -O, which drops every assert: a contract would prove nothing")
        try:
            if runner:
                getattr(self, runner)(body)
            else:
                body(self)
        except ContractError:
            raise
        except Exception as failure:
            name = self._kind.__name__ if self._made else type(self).__name__
            raise BrokenLawError(name, body.__name__, sentence, _seen(failure)) from failure

    test.__name__, test.__qualname__, test.__module__, test.__doc__ = body.__name__, body.__qualname__, body.__module__, body.__doc__
    told: Any = test
    told.sentence, told.needs, told.body = sentence, needs, body
    return test


def _seen(failure: BaseException) -> str:
    root = root_of(failure)
    if isinstance(root, CounterexampleError) and root.__cause__ is not None:
        seed = "" if root.seed is None else f" (replay: schedules = [{root.seed}])"
        return _seen(root.__cause__) + seed
    notes = [str(note) for note in getattr(root, "__notes__", ())]
    where = "".join(f", {note}" for note in notes if note.startswith("on "))
    steps = [note for note in notes if note.startswith("state.") and "(" in note and not note.startswith(_SILENT)]
    told = str(root) if isinstance(root, AssertionError) else f"{type(root).__name__}: {root}"
    return told + where + "".join(f"\n  {step}" for step in steps)
