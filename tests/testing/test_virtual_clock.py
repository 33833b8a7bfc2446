"""Virtual time for asyncio and trio."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from math import inf
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest
import trio
from hypothesis import given, strategies as st

from finresilience import Effect, FullJitter, Pipeline, Retry
from finresilience.clock import obey, ruling_clock
from finresilience.errors import ConfigurationError
from finresilience.testing import VirtualClock, on_asyncio, run_virtual
from finresilience.testing.thread_time import settled

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from finresilience.clock import Clock

both = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Subject:
    """Stands for a policy made at import time."""

    clock: Clock

    def told_by(self, clock: Clock) -> None:
        self.clock = clock


made_at_import_time = Subject()
obey(made_at_import_time)


def on_both(scenario: Callable[..., Any], *args: object) -> Any:
    """Run it on asyncio and trio, and return what both say."""
    told = [run_virtual(scenario, *args, backend=backend) for backend in ("asyncio", "trio")]
    assert told[0] == told[1]
    return told[0]


def test_a_year_of_sleeps_is_over_before_the_test_is() -> None:
    async def a_year() -> float:
        for _ in range(365):
            await ruling_clock().sleep(86_400)
        return ruling_clock().monotonic()

    assert on_both(a_year) == 365 * 86_400


def test_every_way_to_wait_is_virtual_on_asyncio() -> None:
    async def waits() -> list[float]:
        loop, seen = asyncio.get_running_loop(), []
        for wait in (asyncio.sleep(10), anyio.sleep(10), ruling_clock().sleep(10)):
            await wait
            seen.append(ruling_clock().monotonic())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await asyncio.sleep(3600)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 10)
        called = asyncio.Event()
        loop.call_later(5, lambda: loop.call_at(loop.time() + 5, called.set))
        await called.wait()
        return [*seen, loop.time()]

    assert run_virtual(waits) == [10, 20, 30, 60]


def test_every_way_to_wait_is_virtual_on_trio() -> None:
    async def waits() -> list[float]:
        seen = []
        for sleep in (trio.sleep, anyio.sleep, ruling_clock().sleep):
            await sleep(10)
            seen.append(ruling_clock().monotonic())
        with trio.move_on_after(10):
            await trio.sleep_forever()
        with pytest.raises(trio.TooSlowError), trio.fail_after(10):
            await trio.sleep(3600)
        return [*seen, trio.current_time()]

    assert run_virtual(waits, backend="trio") == [10, 20, 30, 50]


# A limit that falls on the very end of the sleep, to the nanosecond that time is told in, is a tie: each loop has its own rule for it.
limits = st.floats(0.001, 100).filter(lambda limit: abs(limit - 50) > 1e-8)


@given(st.lists(st.tuples(st.floats(0, 100), limits), max_size=8))
def test_both_backends_tell_the_same_story_to_the_last_bit(pairs: list[tuple[float, float]]) -> None:
    async def scenario() -> list[tuple[float, int, str]]:
        story: list[tuple[float, int, str]] = []

        async def worker(number: int, delay: float, limit: float) -> None:
            await anyio.sleep(delay)
            with anyio.move_on_after(limit) as scope:
                await ruling_clock().sleep(50)
            story.append((ruling_clock().monotonic(), number, "late" if scope.cancelled_caught else "done"))

        async with anyio.create_task_group() as group:
            for number, (delay, limit) in enumerate(pairs):
                group.start_soon(worker, number, delay, limit)
        return sorted(story)

    on_both(scenario)


def test_a_jump_lands_on_its_timer_to_the_last_bit() -> None:
    async def scenario(first: float, second: float) -> tuple[float, float]:
        await anyio.sleep(first)
        with anyio.CancelScope(deadline=second):
            await anyio.sleep_forever()
        return first, ruling_clock().monotonic()

    for percent in range(1, 100):
        assert on_both(scenario, percent / 100, 1.2 + percent / 7) == (percent / 100, settled(1.2 + percent / 7))


@both
def test_a_timer_never_fires_early_by_its_own_arithmetic(backend: Any) -> None:
    async def scenario() -> None:
        clock = ruling_clock()
        for tenths in range(1, 200):
            due = clock.monotonic() + tenths / 10
            await anyio.sleep(tenths / 10)
            assert clock.monotonic() >= due
            due = clock.monotonic() + tenths / 7
            with anyio.move_on_after(tenths / 7):
                await anyio.sleep_forever()
            assert clock.monotonic() >= due

    run_virtual(scenario, backend=backend)


@both
@pytest.mark.parametrize("start", [0.0, 1.0, 5e6, 1e9, 2**40 + 0.3])
def test_time_moves_on_however_late_it_is(backend: Any, start: float) -> None:
    async def scenario() -> float:
        for _ in range(20):
            await anyio.sleep(0.1)
            with anyio.move_on_after(0.1):
                await anyio.sleep_forever()
        return ruling_clock().monotonic()

    end = run_virtual(scenario, backend=backend, clock=VirtualClock(start))
    assert end - start == pytest.approx(4.0, abs=0.01)


@given(st.floats(0, 1e12))
def test_settling_is_never_early_and_hardly_late(when: float) -> None:
    assert when <= settled(when) <= when + max(when * 1e-15, 0)


def test_float_noise_settles_on_the_whole_nanosecond_above() -> None:
    assert settled(0.1 + 0.7) == 0.8
    assert settled(0.1 + 0.2) == 0.1 + 0.2  # 0.3 would be early


def nested(limits: list[float], work: float) -> tuple[list[str], float]:
    """Sleep for `work` seconds within nested limits, outermost first; return whose limit ended it, and when, as both backends say."""

    async def scenario() -> tuple[list[str], float]:
        ended: list[str] = []

        async def within(rest: list[float]) -> None:
            if not rest:
                await ruling_clock().sleep(work)
                return
            try:
                with anyio.fail_after(rest[0]):
                    await within(rest[1:])
            except TimeoutError:
                ended.append(str(rest[0]))
                raise

        try:
            await within(limits)
        except TimeoutError:
            pass
        return ended, ruling_clock().monotonic()

    told: tuple[list[str], float] = on_both(scenario)
    return told


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=5, unique=True), st.integers(1, 10**6))
def test_of_nested_deadlines_the_nearest_ends_it_at_its_very_time(micros: list[int], work: int) -> None:
    limits, least = [number / 1000 for number in micros], min(micros)
    ended, at = nested(limits, work / 1000 + 1e-7)  # no tie
    if least <= work:
        assert ended == [str(limit) for limit in limits[: limits.index(least / 1000) + 1][::-1]]
        assert at == least / 1000
    else:
        assert (ended, at) == ([], settled(work / 1000 + 1e-7))


def test_a_virtual_year_of_retries_ends_on_the_day() -> None:
    async def a_year() -> tuple[int, float]:
        attempts = 0

        async def charge() -> None:
            nonlocal attempts
            attempts += 1
            if attempts % 4:
                raise ConnectionRefusedError  # surely not sent

        guarded = Pipeline("acme", Retry(attempts=4, backoff=FullJitter(base=60.0, cap=3600.0)), effect=Effect.READ, listeners=[])
        for day in range(1, 366):
            await guarded.acall(charge)
            await ruling_clock().sleep(day * 86_400 - ruling_clock().monotonic())
        return attempts, ruling_clock().monotonic()

    assert on_both(a_year) == (4 * 365, 365 * 86_400)


@both
def test_what_was_made_at_import_time_obeys(backend: Any) -> None:
    async def scenario() -> None:
        assert made_at_import_time.clock is VirtualClock.current()
        await made_at_import_time.clock.sleep(5)
        assert VirtualClock.current().waits == [5.0]

    run_virtual(scenario, backend=backend)
    assert made_at_import_time.clock is ruling_clock()
    assert not isinstance(ruling_clock(), VirtualClock)


@both
def test_monotonic_and_utc_have_one_source(backend: Any) -> None:
    async def scenario() -> tuple[float, datetime]:
        await anyio.sleep(90)
        clock = VirtualClock.current()
        clock.step_utc(timedelta(hours=-1))
        return clock.monotonic(), clock.utc()

    clock = VirtualClock(100.0, utc=datetime(2026, 5, 1, 12, tzinfo=UTC))
    assert run_virtual(scenario, backend=backend, clock=clock) == (190.0, datetime(2026, 5, 1, 11, 1, 30, tzinfo=UTC))
    assert clock.monotonic() == 190.0  # and it stands there


@both
def test_each_run_starts_at_zero(backend: Any) -> None:
    async def scenario() -> float:
        now = ruling_clock().monotonic()
        await anyio.sleep(7)
        return now

    assert [run_virtual(scenario, backend=backend) for _ in range(5)] == [0.0] * 5


@both
def test_a_clock_may_go_on_in_a_second_run(backend: Any) -> None:
    clock = VirtualClock()
    for _ in range(3):
        run_virtual(anyio.sleep, 7, backend=backend, clock=clock)
    assert clock.monotonic() == 21.0


@both
def test_arguments_results_and_errors_pass_through(backend: Any) -> None:
    async def divide(a: int, b: int) -> float:
        await anyio.sleep(1)
        return a / b

    assert run_virtual(divide, 6, 3, backend=backend) == 2
    with pytest.raises(ZeroDivisionError):
        run_virtual(divide, 1, 0, backend=backend)


@both
def test_context_variables_come_in_and_stay_in(backend: Any) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="unset")

    async def scenario() -> str:
        await anyio.sleep(1)
        told = variable.get()
        variable.set("inner")
        return told

    token = variable.set("outer")
    assert run_virtual(scenario, backend=backend) == "outer"
    assert variable.get() == "outer"
    variable.reset(token)


def test_what_is_left_over_is_cancelled_and_cleaned_up_as_by_asyncio_run() -> None:
    ended: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.sleep(inf)
        finally:
            await asyncio.sleep(5)
            ended.append("task")

    async def numbers() -> AsyncGenerator[int]:
        try:
            yield 1
            yield 2
        finally:
            ended.append("generator")

    async def scenario() -> None:
        task = asyncio.create_task(forever())
        generator = numbers()
        await anext(generator)
        await asyncio.sleep(1)
        assert not task.done()
        held.append((task, generator))

    held: list[Any] = []
    run_virtual(scenario)
    assert sorted(ended) == ["generator", "task"]


@both
def test_a_sleep_that_blocks_the_loop_moves_time_for_everybody(backend: Any) -> None:
    async def scenario() -> float:
        with anyio.move_on_after(10) as scope:
            ruling_clock().sleep_sync(25)
            await anyio.sleep(1)
        assert scope.cancelled_caught
        return ruling_clock().monotonic()

    assert run_virtual(scenario, backend=backend) == 25.0


# ---------------------------------------------------------------- wrong use


async def test_inside_a_running_loop_it_says_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match="plain `def`"):
        run_virtual(anyio.sleep, 1)


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="backend"):
        run_virtual(anyio.sleep, 1, backend=cast("Any", "curio"))


@both
def test_a_function_that_is_not_async_is_refused(backend: Any) -> None:
    def sync() -> None: ...

    with pytest.raises(ConfigurationError, match="sync is not an async function"):
        run_virtual(cast("Any", sync), backend=backend)


async def test_a_clock_outside_its_loop_says_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match="run_virtual"):
        await VirtualClock().sleep(1)
    with pytest.raises(ConfigurationError, match="ManualClock"):
        VirtualClock().sleep_sync(1)
    with pytest.raises(ConfigurationError, match="run_virtual"):
        VirtualClock.current()


@both
def test_a_clock_in_another_run_says_what_to_do(backend: Any) -> None:
    with pytest.raises(ConfigurationError, match="does not drive"):
        run_virtual(VirtualClock().sleep, 1, backend=backend)


def test_a_run_that_never_began_leaves_the_clock_free(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise MemoryError

    before, clock = ruling_clock(), VirtualClock()
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(on_asyncio, "run", broken)
        run_virtual(anyio.sleep, 1, clock=clock)
    assert ruling_clock() is before
    run_virtual(anyio.sleep, 1, clock=clock)
    assert clock.monotonic() == 1.0


@both
def test_one_clock_cannot_drive_two_runs_at_once(backend: Any) -> None:
    clock = VirtualClock()
    seen: list[BaseException] = []

    def second() -> None:
        try:
            run_virtual(anyio.sleep, 1, backend=backend, clock=clock)
        except ConfigurationError as error:
            seen.append(error)

    async def scenario() -> None:
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()

    run_virtual(scenario, backend=backend, clock=clock)
    assert "make one for each" in str(seen[0])
