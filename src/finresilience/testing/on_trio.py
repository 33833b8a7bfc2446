"""How does trio live in virtual time? By its own `MockClock`, which calls us when all tasks are blocked.

Three private names are used, pinned by a test: `MockClock._autojump` is replaced on our instance, so that a jump asks for
holds and a deadlock is seen; `_run._r` and `_run._ALLOW_DETERMINISTIC_SCHEDULING` let a seed order the tasks.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from importlib import import_module
from random import Random
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

import anyio
import trio
from trio.testing import MockClock, active_thread_count

from finresilience.testing.deadlock import deadlock
from finresilience.testing.stories import name_of
from finresilience.testing.virtual import running
from finresilience.testing.workers import held_workers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterator

    from finresilience.testing.chance import Chance
    from finresilience.testing.errors import DeadlockError
from finresilience.testing.virtual import VirtualClock

T = TypeVar("T")

trio_run: Final[Any] = import_module("trio._core._run")
_SOCKETS: Final = ("tasks_waiting_read", "tasks_waiting_write", "tasks_waiting")  # epoll and Windows; kqueue


def run(main: Callable[[], Awaitable[T]], *, clock: VirtualClock, chance: Chance, patience: float) -> T:
    """Run `main` on trio in virtual time."""
    driver = TrioDriver(clock, patience)
    with held_workers("trio"), _ordered_by(chance):
        try:
            return anyio.run(driver.main, main, backend="trio", backend_options={"clock": driver.mock})
        except trio.TrioInternalError:
            if driver.dead is None:
                raise
            raise driver.dead from None


@final
class TrioDriver(trio.abc.Instrument):
    """Moves a `MockClock` for a `VirtualClock`."""

    def __init__(self, clock: VirtualClock, patience: float) -> None:
        self.mock: MockClock = MockClock(autojump_threshold=0)
        self.mock.jump(clock.monotonic())
        vars(self.mock)["_autojump"] = self._idle
        self.dead: DeadlockError | None = None
        self._clock = clock
        self._patience = patience
        self._waiting = False
        self._scope = trio.CancelScope()
        self._name = ""
        self._main: trio.lowlevel.Task | None = None
        self._token: trio.lowlevel.TrioToken | None = None

    async def main(self, function: Callable[[], Awaitable[T]]) -> T:
        """Run `function`, and end it with `DeadlockError` once it can never go on."""
        self._name = name_of(function)
        self._main, self._token = trio.lowlevel.current_task(), trio.lowlevel.current_trio_token()
        self._clock.attach(self)
        result: list[T] = []
        try:
            with self._scope:
                result.append(await function())
        finally:
            if self.dead is not None:
                raise self.dead
        return result[0]

    def now(self) -> float:
        return self.mock.current_time()

    def jump_to(self, when: float) -> None:
        while (left := when - self.mock.current_time()) > 0:  # a second time where the float sum fell short
            self.mock.jump(left)

    def wake(self) -> None:
        if self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(_nothing)

    def is_here(self) -> bool:
        return trio.lowlevel.in_trio_run() and trio.lowlevel.current_clock() is self.mock

    # ------------------------------------------------------------------ called by trio

    def _idle(self) -> None:
        """All tasks are blocked, and stayed so for as long as the threshold says."""
        out = self._clock.held + active_thread_count()
        if out > 0:
            self._wait(f"{out} held pieces of work brought no news")
            return
        statistics = trio.lowlevel.current_statistics()
        if self._clock.jump(self.now() + statistics.seconds_to_next_deadline):
            return
        sockets = sum(getattr(statistics.io_statistics, name, 0) for name in _SOCKETS)
        if sockets > 1:  # one beside the loop's own
            self._wait("no socket brought any news")
        else:
            self._give_up("")

    def _wait(self, why: str) -> None:
        if self._waiting:
            self._give_up(why)
            return
        self._waiting = True
        self.mock.autojump_threshold = self._patience
        trio.lowlevel.add_instrument(self)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """News came while we waited: go back to jumping at once when idle."""
        if self._waiting:
            self._waiting = False
            self.mock.autojump_threshold = 0
            trio.lowlevel.remove_instrument(self)

    def _give_up(self, why: str) -> None:
        if self.dead is not None:  # cancelled once, and still waiting behind a shield: nothing is left but to break the loop
            raise self.dead
        self.dead = deadlock(_tasks(self._main, self._name), why=why, patience=self._patience)
        self._scope.cancel()


@final
class _Dealer(Random):
    """Stands in for trio's own random generator; in the thread of a virtual run, its chance decides."""

    def shuffle(self, x: Any) -> None:
        chance = running.chance
        if chance is None:
            super().shuffle(x)
            return
        now, later = chance.order([(task, task) for task in x])
        x[:] = reversed(now)  # trio takes them from the end
        trio_run.GLOBAL_RUN_CONTEXT.runner.runq.extend(later)


_lock: Final = Lock()
_originals: Final[list[tuple[Any, bool]]] = []
_users: Final[list[Chance]] = []


@contextmanager
def _ordered_by(chance: Chance) -> Generator[None]:
    """Let `chance` order the tasks; trio's generator is shared by all threads, so the last run to end puts it back."""
    with _lock:
        _users.append(chance)
        if len(_users) == 1:
            _originals.append((trio_run._r, trio_run._ALLOW_DETERMINISTIC_SCHEDULING))
            trio_run._r, trio_run._ALLOW_DETERMINISTIC_SCHEDULING = _Dealer(), True
    try:
        yield
    finally:
        with _lock:
            _users.remove(chance)
            if not _users:
                trio_run._r, trio_run._ALLOW_DETERMINISTIC_SCHEDULING = _originals.pop()


def _tasks(main: trio.lowlevel.Task | None, name: str) -> Iterator[tuple[str, Any]]:
    left = [] if main is None else [main]
    while left:
        task = left.pop()
        yield name if task is main else task.name, task.coro
        left += [child for nursery in task.child_nurseries for child in nursery.child_tasks]


def _nothing() -> None:
    """Wake the loop by doing so."""
