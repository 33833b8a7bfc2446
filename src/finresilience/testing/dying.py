"""What is true if the process dies right here? A test stops the code at a named place, as if the process had died."""

from __future__ import annotations

import os
from contextvars import ContextVar
from threading import Lock
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, final

from finresilience import crash_points
from finresilience._checks import positive_count, refuse, seconds_of
from finresilience.errors import ConfigurationError
from finresilience.testing.errors import BoundReachedError
from finresilience.testing.stories import name_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token
    from types import TracebackType

How: TypeAlias = Literal["raise", "kill"]
_MOST_PASSES: Final = 100_000  # of one run: a loop that passes more has no end


@final
class Crashed(BaseException):
    """The process has died here, as far as the code inside can tell: no `except Exception` catches it.

    Attributes:
        point: the crash point.
        nth: which pass of it.
    """

    def __init__(self, point: str, nth: int) -> None:
        super().__init__(point, nth)
        self.point = point
        self.nth = nth

    def __str__(self) -> str:
        return f"died at {self.point}, pass {self.nth}: {crash_points.declared().get(self.point, 'no such point')}"


@final
class NotReachedError(AssertionError):
    """The code never came to the crash point: the test has proven nothing."""


def points() -> dict[str, str]:
    """Return every crash point of the modules that are loaded, sorted, each with the sentence of what is true there."""
    return dict(sorted(crash_points.declared().items()))


@final
class at:  # noqa: N801 - reads as a statement: with crash.at("relay.after_publish"):
    """Let the code inside die at a crash point; the block ends in `Crashed`, whatever the dying code makes of it.

        with pytest.raises(Crashed), crash.at("relay.after_publish", nth=2):
            relay.run_until_idle()

    It strikes this thread, the tasks begun inside, and the worker threads they send work to: whoever has their context variables, and
    nobody else. What is dead stays dead: every later point that the same
    code comes to, such as one in a `finally`, stops it too. Recover after the block. `finally` and `except BaseException` still run,
    as they would not in a real death: `how="kill"` is one, for a test that runs its subject in a process of its own (`in_child`).

    Args:
        point: where, as listed by `points()`.
        nth: which pass of it, 1 for the first.
        how: `"raise"`, or `"kill"`: SIGKILL for the whole process, whichever thread comes there.

    Raises:
        ConfigurationError: no such point is declared.
        NotReachedError: the block ended and the point was not reached that often.
    """

    __slots__ = ("_life", "_point", "_token")

    def __init__(self, point: str, *, nth: int = 1, how: How = "raise") -> None:
        known(point)
        if how not in {"raise", "kill"}:
            refuse("how", how, '"raise" or "kill"')
        self._point = point
        self._life = Life(point, positive_count("nth", nth), kills=how == "kill")
        self._token: Token[Life | None] | None = None

    def __enter__(self) -> None:
        if self._token is not None or self._life.over:
            message = "this block is open already, or over: write crash.at(...) again for each `with`"
            raise ConfigurationError(message)
        self._token = here.set(self._life.begin(here.get()))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> None:
        life = self._life
        life.end()
        leave_life(self._token)
        if life.death is None:
            if error is None:
                raise NotReachedError(f"{self._point} was passed {_times(life.count(self._point))}, and should stop pass {life.nth}")
            return
        if not isinstance(error, Crashed):  # a group of it, or whatever the dying code made of it
            raise Crashed(life.death.point, life.death.nth) from error


@final
class Life:
    """What one block knows of the points that were passed in it, and where it is to end."""

    __slots__ = ("_kills", "_lock", "_outer", "death", "nth", "over", "passed", "point")

    def __init__(self, point: str | None = None, nth: int = 0, *, kills: bool = False) -> None:
        self.point: str | None = point  # None: it only listens
        self.nth: int = nth
        self.passed: list[str] = []
        self.death: Crashed | None = None
        self.over: bool = False
        self._kills = kills
        self._lock = Lock()
        self._outer: Life | None = None

    def begin(self, outer: Life | None) -> Life:
        self._outer = outer
        with _gate:
            _lives.append(self)
            crash_points.watch(_pass)
        return self

    def end(self) -> None:
        self.over = True
        with _gate:
            _lives.remove(self)
            if not _lives:
                crash_points.watch(None)

    def count(self, point: str) -> int:
        """Return how often a point was passed."""
        return self.passed.count(point)

    def lineage(self) -> list[Life]:
        """Return this life and those round it: each sees what is passed inside of it."""
        found: list[Life] = []
        life: Life | None = self
        while life is not None:
            found.append(life)
            life = life._outer
        return found

    @property
    def everywhere(self) -> bool:
        """Whether it ends for every thread of the process."""
        return self._kills and not self.over

    def passes(self, point: str) -> None:
        """Take note of a point that was passed, and end there if it is time."""
        if self.over:  # a task that outlived the block
            return
        with self._lock:
            if self.death is None:
                self._note(point)
            death = self.death
        if death is not None:
            raise Crashed(death.point, death.nth)  # one for each task: a shared one would grow a traceback of them all

    def _note(self, point: str) -> None:
        if len(self.passed) >= _MOST_PASSES:
            message = f"{_MOST_PASSES:,} crash points were passed in one run, the last of them {point}: let the scenario end"
            raise BoundReachedError(message)
        self.passed.append(point)
        if point == self.point and self.count(point) == self.nth:
            if self._kills:
                _die()
            self.death = Crashed(point, self.nth)


here: Final[ContextVar[Life | None]] = ContextVar("finresilience.testing.crash", default=None)
_gate: Final = Lock()
_lives: Final[list[Life]] = []


def _pass(point: str) -> None:
    life = here.get()
    lives = [] if life is None else life.lineage()
    for life in (*lives, *(other for other in tuple(_lives) if other.everywhere and other not in lives)):
        known(point)
        life.passes(point)


def _die() -> None:
    import signal

    if hasattr(signal, "SIGKILL"):
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(137)  # where there are no signals


def leave_life(token: Token[Life | None] | None) -> None:
    """Put back what was here before. Internal."""
    if token is not None:
        try:
            here.reset(token)
        except ValueError:  # the block was closed from another context; its life is over, which is what counts
            return


def known(point: object) -> str:
    """Return `point` if it is declared. Internal."""
    declared = points()
    if not isinstance(point, str) or point not in declared:
        listed = ", ".join(declared) or "none yet"
        message = f"there is no crash point {point!r}: import the module that declares it, and take one of crash.points(): {listed}"
        raise ConfigurationError(message)
    return point


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def in_child(point: str, function: Callable[..., object], *args: object, nth: int = 1, patience: float = 60.0) -> None:
    """Call `function(*args)` in a new process, and return once that was killed at the crash point.

    What the function leaves behind, in files or a database, is then what a real death leaves behind. The function and its arguments
    must be picklable, and its module importable: a plain function at the top of a module.

    Args:
        point: where to die; the function's module declares it, or imports what does.
        function: what to run.
        *args: its arguments.
        nth: which pass of it.
        patience: how many real seconds to wait.

    Raises:
        NotReachedError: the function ended, well or badly, and had not come there.
    """
    from multiprocessing import get_context

    seconds_of("patience", patience)
    known(point)
    child = get_context("spawn").Process(target=_killed_at, args=(point, positive_count("nth", nth), function, args))
    child.start()
    try:
        child.join(patience)
        if child.exitcode not in {-9, 137}:
            end = f"still ran after {patience:g} s" if child.exitcode is None else f"ended by itself, with exit code {child.exitcode}"
            raise NotReachedError(f"{name_of(function)} never came to {point}, pass {nth}: it {end}")
    finally:
        child.kill()
        child.join()
        child.close()


def _killed_at(point: str, nth: int, function: Callable[..., object], args: tuple[object, ...]) -> None:
    with at(point, nth=nth, how="kill"):
        function(*args)
