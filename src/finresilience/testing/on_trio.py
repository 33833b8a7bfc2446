"""How does trio live in virtual time? By its own `MockClock`, which calls us when all tasks are blocked.

Private names are used, each pinned by a test. `MockClock._autojump` is replaced on our instance, so that a jump asks for holds
and a deadlock is seen; `_virtual_base` and the runner's `deadlines` make a jump land on its timer to the last bit; `_run._r` and
`_run._ALLOW_DETERMINISTIC_SCHEDULING` let a seed order the tasks; `Task._cancel_status` leads to the shields around a deadlock.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from importlib import import_module
from random import Random
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

import anyio
import trio
from outcome import Error
from trio.testing import MockClock, active_thread_count

from finresilience.testing.deadlock import deadlock, frames
from finresilience.testing.errands import clock_of_token
from finresilience.testing.errors import DeadlockError
from finresilience.testing.stories import name_of
from finresilience.testing.virtual import VirtualClock, running
from finresilience.testing.workers import held_workers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from finresilience.testing.chance import Chance

T = TypeVar("T")

trio_run: Final[Any] = import_module("trio._core._run")
_SOCKETS: Final = ("tasks_waiting_read", "tasks_waiting_write", "tasks_waiting")  # epoll and Windows; kqueue
_ROUNDS: Final = 10  # how often a dead run is helped to unwind


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

    _token: trio.lowlevel.TrioToken

    def __init__(self, clock: VirtualClock, patience: float) -> None:
        self.mock: MockClock = MockClock(autojump_threshold=0)
        self.mock.jump(clock.monotonic())
        vars(self.mock)["_autojump"] = self._idle
        self._rounds = 0
        self.dead: DeadlockError | None = None
        self._clock = clock
        self._patience = patience
        self._waiting = False
        self._scope = trio.CancelScope()
        self._name = ""
        self._main: trio.lowlevel.Task | None = None

    async def main(self, function: Callable[[], Awaitable[T]]) -> T:
        """Run `function`, and end it with `DeadlockError` once it can never go on."""
        self._name = name_of(function)
        self._main, self._token = trio.lowlevel.current_task(), trio.lowlevel.current_trio_token()
        clock_of_token[self._token] = self._clock
        self._clock.attach(self)
        result: list[T] = []
        try:
            with self._scope:
                result.append(await function())
        finally:
            del clock_of_token[self._token]
            self._main = None
            if self.dead is not None:
                raise self.dead
        return result[0]

    def now(self) -> float:
        return self.mock.current_time()

    def jump_to(self, when: float) -> None:
        self.mock._virtual_base = when  # `jump` takes a difference, which is not exact

    def wake(self) -> None:
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
        if self._clock.jump(self, trio_run.GLOBAL_RUN_CONTEXT.runner.deadlines.next_deadline()):
            return
        io = trio.lowlevel.current_statistics().io_statistics
        sockets = sum(getattr(io, name, 0) for name in _SOCKETS)
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
        self._waiting = False
        self.mock.autojump_threshold = 0
        trio.lowlevel.remove_instrument(self)

    def _give_up(self, why: str) -> None:
        """Cancel the run; if it stands still again, break its shields, then its waits, for an error in the loop itself leaves ruins."""
        tasks = _tasks(self._main)
        threads = self._clock.strand()
        if self.dead is None:
            named = ((self._name if task is self._main else task.name, task.coro) for task in tasks)
            self.dead = deadlock(named, why=why, patience=self._patience, threads=threads)
            self._scope.cancel()
            return
        self._rounds += 1
        if self._rounds > _ROUNDS:
            raise self.dead
        if sum(map(_unshield, tasks)) == 0:
            for task in tasks:
                if not any(nursery.child_tasks for nursery in task.child_nurseries):  # a parent goes on when its children end
                    _abandon_thread(task)
                    trio.lowlevel.reschedule(task, Error(DeadlockError(str(self.dead))))


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


def _tasks(main: trio.lowlevel.Task | None) -> list[trio.lowlevel.Task]:
    found = [] if main is None else [main]
    for task in found:  # which grows meanwhile
        found += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found


def _unshield(task: Any) -> int:
    """Lift all shields around `task`, and return how many there were."""
    status, lifted = task._cancel_status, 0
    while status is not None:
        if status._scope.shield:
            status._scope.shield = False
            lifted += 1
        status = status._parent
    return lifted


def _abandon_thread(task: trio.lowlevel.Task) -> None:
    """If `task` waits for a thread, let its result find nobody, as trio does for a thread that may be abandoned."""
    for frame in frames(task.coro):
        register = frame.f_locals.get("task_register")
        if register:
            register[0] = None


def _nothing() -> None:
    """Wake the loop by doing so."""
