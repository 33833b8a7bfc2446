"""Nobody's cancellation is swallowed or invented: our limits in and round everybody else's, told in stories, each from one seed."""

from __future__ import annotations

import asyncio
import os
from math import inf
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trio

from finresilience import CircuitOpenError, DeadlineExceededError
from finresilience.policies import shells
from finresilience.policies.limits import AsyncLimit
from finresilience.policies.wheel import Alarm, Wheel
from tests.concurrency.scopes import HAIR, Story, Visit, leaves
from tests.laws.sabotage import a_cancelled_call_keeps_its_permit, each_kill, kills, nothing
from tests.laws.worlds import both_loops, on

if TYPE_CHECKING:
    from collections.abc import Iterable

Patch = pytest.MonkeyPatch

STORIES = 150 if not os.environ.get("FINRESILIENCE_DEEP") else 15_000
LATE = 0.011  # one tick of the wheel, for each limit that rings in the same task
CHUNKS = 5
CALM = 2.0  # longer than any limit


# --- telling a story ---------------------------------------------------------------------------------------------------


async def told_on_asyncio(story: Story) -> int:
    """Cancel the task as asyncio does, once; return how often it still counts as cancelled."""

    def interrupt() -> None:
        if story.end is None:
            story.interrupted = True
            task.cancel()

    async def host() -> int:
        await story.lived()
        nothing_is_left_behind()
        count = task.cancelling()
        while task.cancelling():
            task.uncancel()
        await asyncio.sleep(CALM)
        return count

    loop = asyncio.get_running_loop()
    task = loop.create_task(host())
    if story.outside is not None:
        loop.call_later(story.outside, interrupt)
    await asyncio.wait([task])
    assert not task.cancelled(), "an alarm rang when all was over"
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return task.result()


async def told_on_trio(story: Story) -> int:
    """Cancel a scope round the call; return 0."""

    async def interrupt() -> None:
        await trio.sleep(story.outside or 0.0)
        if story.end is None:
            story.interrupted = True
            scope.cancel()

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            if story.outside is not None:
                nursery.start_soon(interrupt)
            await story.lived()
        assert story.end is not None
        assert scope.cancelled_caught is story.end.cancelled
        await trio.sleep(CALM)
    return 0


def nothing_is_left_behind() -> None:
    loop: Any = asyncio.get_running_loop()
    for wheel in getattr(loop, "_finresilience_wheels", []):
        assert not wheel._ringing
        assert not any(wheel._slots.values())
        assert not [timer for timer in loop._scheduled if timer._callback == wheel._soon and not timer.cancelled()]


# --- what must hold ----------------------------------------------------------------------------------------------------


def the_whole_call_ended_as_it_must(story: Story, count: int) -> None:
    assert story.end is not None
    assert story.left is None
    if not story.interrupted:
        assert not story.end.cancelled or story.mixed, "cancelled by nobody"
        assert count == 0 or any(layer.kind == "TaskGroup" for layer in story.layers)  # which leaves its count, before Python 3.13
    elif not story.had_the_last_word:
        came_out = [visit.out.error for layer in story.layers for visit in layer.visits if visit.out is not None]
        by_a_group = any(isinstance(error, BaseExceptionGroup) for error in came_out)  # whose children's errors come before a cancellation
        assert story.end.cancelled or by_a_group, "somebody outside cancelled, and was not heard"


def each_layer_passed_on_what_it_must(story: Story) -> None:
    for layer in story.layers:
        for visit in layer.visits:
            assert visit.out is not None
            if layer.ours and visit.inside and visit.inside[-1].error is None:
                assert visit.out.value is visit.inside[-1].value, "a value in hand was thrown away"
            elif visit.own_report():
                limit = visit.limits[visit.decisive]
                assert visit.out.at >= limit - HAIR, f"{layer.name} gave up too early"
            elif visit.out.cancelled:
                assert visit.told_to_stop or story.mixed, f"{layer.name} let a cancellation out that was nobody's"
            elif layer.ours:
                ours_passed_on(visit)
        if layer.ours:
            each_limit_held(story, layer.visits)


def ours_passed_on(visit: Visit) -> None:
    """An error that came in comes out, somewhere in the error; where nothing came in, we refused."""
    assert visit.out is not None
    if not visit.inside:
        assert isinstance(visit.out.error, DeadlineExceededError | CircuitOpenError)
        return
    told = leaves(visit.out.error)
    possible = [leaves(one.error) for one in visit.inside[visit.decisive :] if not one.cancelled]
    assert any(error <= told for error in possible), "an error was replaced, or a cancellation swallowed"


def each_limit_held(story: Story, visits: Iterable[Visit]) -> None:
    for visit in visits:
        for ending, limit in zip(visit.inside, visit.limits, strict=True):
            assert not story.willing or ending.at <= limit + LATE * (1 + len(story.layers))


async def no_permit_is_lost(story: Story) -> None:
    for layer in story.layers:
        ends = layer.ends
        if ends is not None:
            assert ends.ok + ends.declined + ends.failed + ends.unknown + ends.refused + ends.abandoned == len(layer.visits)
        if layer.breaker is not None:
            if layer.breaker.state == "open":
                await anyio.sleep(1.0)
            assert layer.breaker.admit(anyio.current_time()) is not None, "a permit was lost"


async def told(story: Story) -> None:
    tell = told_on_asyncio if story.backend == "asyncio" else told_on_trio
    count = await tell(story)
    the_whole_call_ended_as_it_must(story, count)
    each_layer_passed_on_what_it_must(story)
    await no_permit_is_lost(story)


def all_told(seeds: Iterable[int], backend: str) -> None:
    for seed in seeds:
        story = Story(seed, backend)
        try:
            on(backend, told, story)
        except BaseException as failure:
            replay = f"FINRESILIENCE_SEED={seed} python -m pytest {os.path.relpath(__file__)}"
            raise AssertionError(f"{failure!r}\n{story}\nreplay: {replay}") from failure


def seeds(chunk: int) -> Iterable[int]:
    one = os.environ.get("FINRESILIENCE_SEED")
    return range(chunk, STORIES, CHUNKS) if one is None else [int(one)]


@both_loops
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_nobodys_cancellation_is_swallowed_or_invented(backend: str, chunk: int) -> None:
    all_told(seeds(chunk), backend)


# --- whoever breaks it is found out ------------------------------------------------------------------------------------


def every_cancellation_is_taken_for_our_own(patch: Patch) -> None:
    disarm, leave = Wheel.disarm, AsyncLimit.__exit__

    def greedy(self: Wheel, alarm: Alarm, error: BaseException | None) -> bool:
        return disarm(self, alarm, error) or isinstance(error, asyncio.CancelledError)

    def deaf(self: AsyncLimit, kind: Any, error: Any, traceback: Any) -> bool:
        swallowed = leave(self, kind, error, traceback)
        if isinstance(error, trio.Cancelled):
            raise self.expired() from None
        return swallowed

    patch.setattr(Wheel, "disarm", greedy)
    patch.setattr(AsyncLimit, "__exit__", deaf)


def our_own_cancellation_is_taken_for_somebodys(patch: Patch) -> None:
    disarm = Wheel.disarm

    def modest(self: Wheel, alarm: Alarm, error: BaseException | None) -> bool:
        disarm(self, alarm, error)
        return False

    patch.setattr(Wheel, "disarm", modest)


def a_cancellation_is_never_taken_back(patch: Patch) -> None:
    def disarm(self: Wheel, alarm: Alarm, error: BaseException | None) -> bool:
        task, alarm.task = alarm.task, None
        if alarm.slot is not None:
            alarm.slot.pop(alarm, None)
        elif task is not None:
            alarm.handle.cancel()
        if task is not None:
            self._ringing.pop(task, None)
        return alarm.rung and isinstance(error, asyncio.CancelledError)

    patch.setattr(Wheel, "disarm", disarm)


def an_alarm_goes_on_ringing(patch: Patch) -> None:
    disarm = Wheel.disarm

    def forgetful(self: Wheel, alarm: Alarm, error: BaseException | None) -> bool:
        return alarm.rung and disarm(self, alarm, error)

    patch.setattr(Wheel, "disarm", forgetful)


def a_value_that_meets_its_expiry_is_thrown_away(patch: Patch) -> None:
    leave = AsyncLimit.__exit__

    def strict(self: AsyncLimit, kind: Any, error: Any, traceback: Any) -> bool:
        swallowed = leave(self, kind, error, traceback)
        if self.late and error is None:
            raise self.expired()
        return swallowed

    patch.setattr(AsyncLimit, "__exit__", strict)


def half_the_time_will_do(patch: Patch) -> None:
    begin = AsyncLimit.__init__

    def hasty(self: AsyncLimit, name: str, **told: Any) -> None:
        told["limit"] = (told["limit"] + told["now"]) / 2
        begin(self, name, **told)

    patch.setattr(AsyncLimit, "__init__", hasty)


def there_is_no_limit(patch: Patch) -> None:
    begin = AsyncLimit.__init__

    def patient(self: AsyncLimit, name: str, **told: Any) -> None:
        told["limit"] = inf
        begin(self, name, **told)

    patch.setattr(AsyncLimit, "__init__", patient)


def a_context_is_left_in_force(patch: Patch) -> None:
    patch.setattr(shells, "leave", nothing)


ON_BOTH = (
    every_cancellation_is_taken_for_our_own,
    a_value_that_meets_its_expiry_is_thrown_away,
    half_the_time_will_do,
    there_is_no_limit,
    a_context_is_left_in_force,
    a_cancelled_call_keeps_its_permit,
)
ON_ASYNCIO = (our_own_cancellation_is_taken_for_somebodys, a_cancellation_is_never_taken_back, an_alarm_goes_on_ringing)


@each_kill(
    *((saboteur, all_told, range(60), loop) for saboteur in ON_BOTH for loop in ("asyncio", "trio")),
    *((saboteur, all_told, range(60), "asyncio") for saboteur in ON_ASYNCIO),
)
def test_some_story_catches(row: tuple[Any, ...]) -> None:
    kills(*row)


def test_the_same_seed_tells_the_same_story() -> None:
    for backend in ("asyncio", "trio"):
        first, again = Story(7, backend), Story(7, backend)
        on(backend, told, first)
        on(backend, told, again)
        assert str(first) == str(again)
        assert trail(first) == trail(again)


def trail(story: Story) -> list[tuple[str, float, float]]:
    return [(layer.name, visit.began, visit.out.at) for layer in story.layers for visit in layer.visits if visit.out is not None]
