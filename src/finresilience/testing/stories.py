"""What is a scenario? Fresh state, some clients, and a check: a story told once for each schedule."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from hashlib import sha256
from threading import local
from types import CoroutineType, GeneratorType, coroutine
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias, cast, final

from finresilience._checks import positive_count
from finresilience.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence

Check: TypeAlias = "Callable[[], object]"
Client: TypeAlias = "Coroutine[Any, Any, object] | Generator[Any, Any, object] | Sequence[Callable[[], object]]"
Story: TypeAlias = "tuple[Sequence[Client], Check]"
ThreadStory: TypeAlias = "tuple[Sequence[Callable[[], object]], Check]"


@final
class Explored:
    """What an exploration covered.

    Attributes:
        schedules: how many runs there were.
        distinct: how many of them differed.
        digest: one hash over all schedules, in order: equal digests mean equal explorations.
    """

    __slots__ = ("digest", "distinct", "schedules")

    def __init__(self, schedules: int, distinct: int, digest: str) -> None:
        self.schedules: int = schedules
        self.distinct: int = distinct
        self.digest: str = digest

    def __repr__(self) -> str:
        return f"Explored(schedules={self.schedules}, distinct={self.distinct}, digest={self.digest!r})"


@final
class Tally:
    """Count schedules as they are run. Internal."""

    __slots__ = ("_digest", "_seen", "schedules")

    def __init__(self, *, distinct_by_construction: bool = False) -> None:
        self._digest = sha256()
        self._seen: set[bytes] | None = None if distinct_by_construction else set()
        self.schedules: int = 0

    def add(self, schedule: str) -> None:
        self.schedules += 1
        written = schedule.encode()
        self._digest.update(b"%d:" % len(written) + written)
        if self._seen is not None:
            self._seen.add(sha256(written).digest()[:12])  # a long schedule costs 12 bytes here

    def told(self) -> Explored:
        if not self.schedules:
            message = "seeds= holds no seed: nothing was run, so nothing is known"
            raise ConfigurationError(message)
        return Explored(self.schedules, self.schedules if self._seen is None else len(self._seen), self._digest.hexdigest()[:32])


class _Mode(local):
    by_hand = False  # whether this thread steps coroutines by hand, without an event loop


mode: Final[_Mode] = _Mode()


@coroutine
def give_way(token: object = None) -> Generator[object, None, None]:
    """Hand `token` to whoever drives this coroutine by hand. Internal."""
    yield token


@final
class Wait:
    """What `until` hands to whoever drives it by hand. Internal."""

    __slots__ = ("ready",)

    def __init__(self, ready: Callable[[], bool]) -> None:
        self.ready: Callable[[], bool] = ready


async def turn() -> None:
    """Let others run here: one step in `exhaust`, one checkpoint on asyncio and trio."""
    if mode.by_hand:
        await give_way()
    else:
        from anyio.lowlevel import checkpoint

        await checkpoint()


async def until(ready: Callable[[], bool]) -> None:
    """Wait until `ready()` is true. In `exhaust`, this client takes no step before; elsewhere, it looks at every turn."""
    if mode.by_hand:
        await give_way(Wait(ready))
        return
    await turn()
    while not ready():
        await turn()


def told_by(scenario: Callable[..., object], told: Any) -> tuple[list[Any], Check]:
    """Return clients and check as the scenario made them, or raise a `ConfigurationError` that says how to write one."""
    if not isinstance(told, tuple) or len(told) != 2:
        _refuse(scenario, f"it returned {'nothing' if told is None else f'a {type(told).__name__}'}", told)
    clients, check = told
    if not isinstance(clients, list | tuple) or not clients:
        _refuse(scenario, "its first part is not a non-empty list of clients", told)
    if not callable(check):
        _refuse(scenario, "its second part, the check, cannot be called", told)
    return list(clients), check


def _refuse(scenario: Callable[..., object], why: str, told: object) -> NoReturn:
    close(told)
    message = (
        f"{name_of(scenario)} is not a scenario: {why}. "
        "Build fresh state in it and return (clients, check): a list of clients, and a function that asserts what must hold at the end"
    )
    raise ConfigurationError(message)


def close(thing: Any) -> None:
    """Close every coroutine and generator in `thing`, so that none complains that nobody awaited it."""
    if isinstance(thing, list | tuple):
        for part in thing:
            close(part)
    elif isinstance(thing, CoroutineType | GeneratorType):
        with suppress(Exception):
            thing.close()


def name_of(scenario: Callable[..., object]) -> str:
    """Return the name to print in a line that replays."""
    if isinstance(scenario, partial):
        return name_of(scenario.func)
    return getattr(scenario, "__name__", None) or type(scenario).__name__


def root_of(failure: BaseException) -> BaseException:
    """Return the one failure inside a group of one, however deep: task groups wrap what they raise."""
    while isinstance(failure, BaseExceptionGroup) and len(parts := cast("BaseExceptionGroup[BaseException]", failure).exceptions) == 1:
        failure = parts[0]
    return failure


def judge(check: Check) -> None:
    """Run the check; a check may assert, or return False."""
    if check() is False:
        message = "the check returned False"
        raise AssertionError(message)


def seeds_of(seeds: Iterable[int] | int) -> Iterable[int]:
    """Return the seeds to run: a number means that many, from 0."""
    return range(positive_count("seeds", seeds)) if isinstance(seeds, int) else seeds
