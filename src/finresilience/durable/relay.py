"""How do committed events reach the broker? By a relay: in order for each key, at least once, whoever dies meanwhile."""

from __future__ import annotations

from inspect import isawaitable, iscoroutine
from typing import TYPE_CHECKING, Any, Final, Self, cast

from finresilience.crash_points import crash_point
from finresilience.durable.relay_steps import Publish, Step, Stop, Wait
from finresilience.durable.relaying import ASKING, HEARD, PUBLISHED, Relaying
from finresilience.errors import ConfigurationError
from finresilience.policies.waiting import ThreadWaiter, waiter_here

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from finresilience.durable.messages import OutboxRow
    from finresilience.durable.relay_core import RelayCore
    from finresilience.policies.waiting import AsyncioWaiter, TrioWaiter

_NOT_ASYNC: Final = "the {0} is not async: give run() an async {0}, or call run_sync()"
_NOT_SYNC: Final = "the {0} is async: give run_sync() a sync {0}, or await run()"


class Relay(Relaying):
    """Publish what transactions have committed to an outbox. Run as many relays as you like: each partition has one at a time.

        async with Relay(store, publish, batch=200) as relay:
            await relay.run()

    A row is settled once `publish(row)` has returned, so each is published at least once, and again only if its relay died or was cut off
    between the two. What it raises is judged: NON_RETRYABLE buries the row, everything else tries again later, holding back its own key
    alone. An UNKNOWN costs one of `max_attempts`. RETRYABLE means that the broker never had it, and a refusal of ours (a circuit that is
    open, a limit) that it was never sent: both cost nothing, so an outage of the broker buries nothing, however long. Give the publisher a
    `CircuitBreaker` all the same, and it is left alone meanwhile. An answer that the rules judge, such as a status 503, is a failure too.

    Cancelled or stopped, it settles what was confirmed, gives its partitions back, and ends. It ends by `FencedError` when another relay
    has taken over one of its partitions: it was too slow, and a new one should start.

    Args:
        store: the outbox; an async one for `run`, a sync one for `run_sync`.
        publisher: takes one `OutboxRow` and returns once the broker has confirmed it; `async def` for `run`.
        name: shown in events.
        owner: the name under which it owns partitions; made up by default. No two relays may share one.
        classify: rules of your own for what the publisher raises or returns.
        drain_timeout: how long tidying up may take, in seconds, once it was cancelled.
        clock: tells the time.
        chance: numbers in [0, 1) for jitter.
        listeners: hear every event.
        **numbers: batch, lease, publish_timeout and the like; see `RelaySettings`.

    Raises:
        ConfigurationError: if an argument cannot work, or two cannot work together; the message says what would.
    """

    # --- async -----------------------------------------------------------------------------------------------------------

    async def run(self, *, until_idle: bool = False) -> None:
        """Publish until stopped or cancelled; with `until_idle`, until nothing is due.

        Raises:
            FencedError: another relay has taken over a partition of ours. The others were tidied up.
            ConfigurationError: it runs already, or the store or the publisher is not async.
        """
        with self._running(waiter_here(), until_idle=until_idle) as core:
            try:
                while not isinstance(step := self._next(core), Stop):
                    await self._ado(core, step)
            except BaseException:
                await self._adrain(core)
                raise

    async def _adrain(self, core: RelayCore) -> None:
        from anyio import move_on_after

        core.leave()
        with move_on_after(self._drain_timeout, shield=True):
            while not isinstance(step := self._next(core), Stop):
                await self._ado(core, step)

    async def _ado(self, core: RelayCore, step: Step) -> None:
        if isinstance(step, Publish):
            await self._apublish(core, step)
        elif isinstance(step, Wait):
            await self._await(step.seconds)
        else:
            asked_at = self._now()
            try:
                crash_point(ASKING)
                answer: Any = await _awaitable(self._request(step)(), "store")
                crash_point(HEARD)
                self._told(core, step, answer, asked_at)
            except Exception as error:
                self._not_told(core, step, error)

    async def _apublish(self, core: RelayCore, wave: Publish) -> None:
        lines = iter(wave.lines)
        lanes = min(wave.at_once, len(wave.lines))
        if lanes == 1:
            await self._alane(core, lines)
        else:
            from anyio import create_task_group

            async with create_task_group() as group:
                for _ in range(lanes):
                    group.start_soon(self._alane, core, lines)
        for line in lines:
            core.left(line)
        if self._misused:
            raise ConfigurationError(_NOT_ASYNC.format("publisher"))

    async def _alane(self, core: RelayCore, lines: Iterator[tuple[OutboxRow, ...]]) -> None:
        for line in lines:
            for n, row in enumerate(line):
                if self._stopping or self._misused or not core.may_publish(row, self._now()):
                    core.left(line[n:])
                    return
                if not await self._apublish_one(core, row):
                    core.dropped(line[n + 1 :])
                    break

    async def _apublish_one(self, core: RelayCore, row: OutboxRow) -> bool:
        try:
            async with self._timeout.guard():
                answer: Any = self._publisher(row)
                if not isawaitable(answer):
                    self._misused = True  # told once the others have landed
                    return False
                answer = await answer
        except Exception as error:
            self._failed(core, row, error)
            return False
        crash_point(PUBLISHED)  # the guard swallows nothing: what it cuts off, it raises
        return self._answered(core, row, answer)  # pyright: ignore[reportPossiblyUnboundVariable] - as said

    async def _await(self, seconds: float) -> None:
        if hasattr(self._clock, "advance"):  # a clock moved by hand stands still until whoever sleeps moves it
            await self._clock.sleep(seconds)
        else:
            await cast("AsyncioWaiter | TrioWaiter", self._waiter).sleep(self._clock, self._now() + seconds)

    # --- sync ------------------------------------------------------------------------------------------------------------

    def run_sync(self, *, until_idle: bool = False) -> None:
        """Publish, one row at a time, until stopped or interrupted; with `until_idle`, until nothing is due.

        Raises:
            FencedError: another relay has taken over a partition of ours. The others were tidied up.
            ConfigurationError: it runs already, or the store or the publisher is not sync.
        """
        with self._running(ThreadWaiter(), until_idle=until_idle, concurrency=1) as core:
            try:
                while not isinstance(step := self._next(core), Stop):
                    self._do(core, step)
            except BaseException:
                self._drain(core)
                raise

    def _drain(self, core: RelayCore) -> None:
        core.leave()
        until = self._now() + self._drain_timeout
        while not isinstance(step := self._next(core), Stop) and self._now() <= until:
            self._do(core, step)

    def _do(self, core: RelayCore, step: Step) -> None:
        if isinstance(step, Publish):
            lines = iter(step.lines)
            self._lane(core, lines)
            for line in lines:
                core.left(line)
        elif isinstance(step, Wait):
            self._wait(step.seconds)
        else:
            asked_at = self._now()
            try:
                crash_point(ASKING)
                answer = _plain(self._request(step)(), "store")
                crash_point(HEARD)
                self._told(core, step, answer, asked_at)
            except Exception as error:
                self._not_told(core, step, error)

    def _lane(self, core: RelayCore, lines: Iterator[tuple[OutboxRow, ...]]) -> None:
        for line in lines:
            for n, row in enumerate(line):
                if self._stopping or not core.may_publish(row, self._now()):
                    core.left(line[n:])
                    return
                if not self._publish_one(core, row):
                    core.dropped(line[n + 1 :])
                    break

    def _publish_one(self, core: RelayCore, row: OutboxRow) -> bool:
        try:
            with self._timeout.guard():
                answer = self._publisher(row)
        except Exception as error:
            self._failed(core, row, error)
            return False
        crash_point(PUBLISHED)
        return self._answered(core, row, _plain(answer, "publisher"))

    def _wait(self, seconds: float) -> None:
        if hasattr(self._clock, "advance"):  # as above
            self._clock.sleep_sync(seconds)
        else:
            cast("ThreadWaiter", self._waiter).sleep(self._clock, self._now() + seconds)

    # --- with and async with ---------------------------------------------------------------------------------------------

    # A relay is no shared policy: its block is its life.
    def __enter__(self) -> Self:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride] - as said
        return self

    def __exit__(self, *_: object) -> None:
        self._leave_block()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> None:
        self._leave_block()

    def _leave_block(self) -> None:
        if self._core is not None:  # it runs in another task or thread, which tidies up by itself
            self.stop()


async def _awaitable(answer: Any, what: str) -> Any:
    if not isawaitable(answer):
        raise ConfigurationError(_NOT_ASYNC.format(what))
    return await answer


def _plain(answer: Any, what: str) -> Any:
    if isawaitable(answer):
        if iscoroutine(answer):
            answer.close()
        raise ConfigurationError(_NOT_SYNC.format(what))
    return answer
