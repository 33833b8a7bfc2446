"""A process that dies at a named place: where, for whom, and for good."""

from __future__ import annotations

import ast
import os
from contextlib import suppress
from contextvars import copy_context
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import to_thread

from finresilience import ConfigurationError, Constant, Effect, Pipeline, Retry, crash_points
from finresilience.crash_points import crash_point, declare
from finresilience.testing import crash, dying
from finresilience.testing.crash import Crashed, NotReachedError
from tests.laws.sabotage import each_kill, kills, nothing
from tests.laws.worlds import on
from tests.testing.relays import CLAIMED, ELSEWHERE, PUBLISHED, SETTLED, suppressed, world

if TYPE_CHECKING:
    from collections.abc import Callable


# ---------------------------------------------------------------- points


def test_a_point_does_nothing_until_a_test_strikes() -> None:
    relay, _ = world("a")
    relay.run()
    assert relay.broker == ["a"]
    assert crash_points._watch is None


def test_points_are_listed_with_what_is_true_there() -> None:
    assert crash.points()[PUBLISHED] == "the broker has the message, and the store does not know"
    assert list(crash.points()) == sorted(crash.points())


def test_the_list_of_points_is_a_copy() -> None:
    crash.points().clear()
    crash_points.declared().clear()
    assert PUBLISHED in crash.points()


def test_the_module_that_production_code_imports_imports_nothing() -> None:
    tree = ast.parse(Path(crash_points.__file__).read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [node.module for node in imports if isinstance(node, ast.ImportFrom)] == ["__future__"]
    assert len(imports) == 1


@pytest.mark.parametrize("name", ["relay", "Relay.after", "relay.", "relay.after publish", "relay.after-publish", ""])
def test_a_point_is_named_after_its_room_and_its_moment(name: str) -> None:
    with pytest.raises(ValueError, match=r"named room\.moment"):
        declare(name, "a sentence")


def test_a_point_says_what_is_true_there() -> None:
    with pytest.raises(ValueError, match="needs a sentence"):
        declare("toy_relay.mute", " ")


def test_one_name_is_one_place_however_often_its_module_is_loaded() -> None:
    assert declare(CLAIMED, crash.points()[CLAIMED]) == CLAIMED
    with pytest.raises(ValueError, match="declared already"):
        declare(CLAIMED, "another sentence")


# ---------------------------------------------------------------- at


def test_the_code_dies_at_the_point() -> None:
    relay, _ = world("a", "b")
    with pytest.raises(Crashed) as death, crash.at(PUBLISHED):
        relay.run()
    assert (relay.broker, relay.store) == (["a"], {"a": "claimed", "b": "new"})
    assert (death.value.point, death.value.nth) == (PUBLISHED, 1)
    assert str(death.value) == "died at toy_relay.published, pass 1: the broker has the message, and the store does not know"


def test_the_code_dies_on_the_pass_that_was_asked_for() -> None:
    relay, _ = world("a", "b", "c")
    with pytest.raises(Crashed), crash.at(PUBLISHED, nth=2):
        relay.run()
    assert relay.broker == ["a", "b"]


def test_after_the_block_nothing_dies() -> None:
    relay, recover = world("a", "b")
    with pytest.raises(Crashed), crash.at(CLAIMED):
        relay.run()
    recover()
    assert crash_points._watch is None


def test_no_except_exception_survives_it() -> None:
    def careful() -> None:
        with suppress(Exception):
            crash_point(CLAIMED)

    with pytest.raises(Crashed), crash.at(CLAIMED):
        careful()


def test_code_that_swallows_its_own_death_is_dead_all_the_same() -> None:
    def immortal() -> None:
        with suppress(BaseException):
            crash_point(CLAIMED)

    with pytest.raises(Crashed), crash.at(CLAIMED):
        immortal()


def test_the_dead_pass_no_other_point() -> None:
    told: list[str] = []

    def tidy() -> None:
        try:
            crash_point(CLAIMED)
        finally:
            crash_point(SETTLED)
            told.append("the finally went on")

    with pytest.raises(Crashed), crash.at(CLAIMED):
        tidy()
    assert told == []


def test_an_error_before_the_point_is_the_blocks_own() -> None:
    with pytest.raises(ZeroDivisionError), crash.at(CLAIMED):
        1 / 0  # pyright: ignore[reportUnusedExpression] - the error is the point
    assert crash_points._watch is None


def test_a_point_that_is_never_reached_is_an_error() -> None:
    relay, _ = world("a")
    with pytest.raises(NotReachedError, match="passed once, and should stop pass 2"), crash.at(CLAIMED, nth=2):
        relay.run()


def test_a_retry_does_not_survive_it() -> None:
    made: list[int] = []
    pipeline = Pipeline("acme.charge", Retry(attempts=5, backoff=Constant(0)), effect=Effect.IDEMPOTENT_BY_NATURE, listeners=[])

    def charge() -> None:
        made.append(1)
        crash_point(CLAIMED)

    with pytest.raises(Crashed), crash.at(CLAIMED):
        pipeline.call(charge)
    assert made == [1]


def test_blocks_may_stand_inside_each_other() -> None:
    relay, _ = world("a", "b")
    with pytest.raises(Crashed) as death, crash.at(SETTLED):
        with pytest.raises(Crashed), crash.at(CLAIMED):
            relay.run()
        relay.run()
    assert death.value.point == SETTLED


def test_a_block_may_be_closed_from_another_context_than_it_was_opened_in() -> None:
    relay, _ = world("a")
    block = crash.at(CLAIMED)
    inside = copy_context()
    inside.run(block.__enter__)
    with pytest.raises(Crashed):
        inside.run(relay.run)
    with pytest.raises(Crashed):
        block.__exit__(None, None, None)
    assert crash_points._watch is None


# ---------------------------------------------------------------- for whom


def test_another_thread_lives_on() -> None:
    other, _ = world("a")
    mine, _ = world("b")

    def both() -> None:
        thread = Thread(target=suppressed(other.run))
        thread.start()
        thread.join()
        assert other.store == {"a": "settled"}
        mine.run()

    with pytest.raises(Crashed), crash.at(CLAIMED):
        both()
    assert mine.store == {"b": "claimed"}


async def test_the_tasks_that_were_begun_inside_die() -> None:
    relay, _ = world("a")

    async def run() -> None:
        relay.run()

    with pytest.raises(Crashed), crash.at(CLAIMED):
        async with anyio.create_task_group() as group:
            group.start_soon(run)
    assert relay.store == {"a": "claimed"}


async def test_a_task_from_before_lives_on() -> None:
    older, _ = world("a")
    younger, _ = world("b")
    begun, done = anyio.Event(), anyio.Event()

    async def older_run() -> None:
        await begun.wait()
        suppressed(older.run)()
        done.set()

    async with anyio.create_task_group() as group:
        group.start_soon(older_run)
        with pytest.raises(Crashed), crash.at(CLAIMED):
            begun.set()
            await done.wait()
            younger.run()
    assert older.store == {"a": "settled"}


async def test_work_that_a_task_sends_to_a_thread_dies() -> None:
    relay, _ = world("a")
    with pytest.raises(Crashed), crash.at(CLAIMED):
        await to_thread.run_sync(relay.run)
    assert relay.store == {"a": "claimed"}


async def test_a_task_that_outlives_the_block_lives_on() -> None:
    relay, _ = world("a")
    begun, done = anyio.Event(), anyio.Event()

    async def late() -> None:
        await begun.wait()
        suppressed(relay.run)()
        done.set()

    async with anyio.create_task_group() as group:
        with pytest.raises(NotReachedError), crash.at(CLAIMED):
            group.start_soon(late)
            await anyio.lowlevel.checkpoint()
        with pytest.raises(Crashed), crash.at(ELSEWHERE):  # the next block, so that points are watched
            begun.set()
            await done.wait()
            crash_point(ELSEWHERE)
    assert relay.store == {"a": "settled"}


# ---------------------------------------------------------------- a real death


def dies(path: str) -> None:
    Path(path).write_text("before")
    try:
        crash_point(CLAIMED)
    finally:
        Path(path).write_text("after")


def test_a_killed_process_runs_no_finally(tmp_path: Path) -> None:
    left = tmp_path / "left"
    crash.in_child(CLAIMED, dies, str(left))
    assert left.read_text() == "before"


def test_a_child_that_never_comes_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotReachedError, match=r"ended by itself, with exit code 1"):
        crash.in_child(CLAIMED, dies, str(tmp_path / "left"), nth=2)


def test_a_real_death_takes_every_thread_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[str] = []

    def kill(pid: int, signal: int) -> None:
        killed.append(f"{pid == os.getpid()} {signal}")

    def leave(code: int) -> None:
        killed.append(str(code))

    monkeypatch.setattr(os, "kill", kill)
    monkeypatch.setattr(os, "_exit", leave)
    relay, _ = world("a")
    with pytest.raises(Crashed), crash.at(CLAIMED, how="kill"):
        thread = Thread(target=suppressed(relay.run))
        thread.start()
        thread.join()
    assert killed[-1] == "137"
    assert killed[:-1] in ([], ["True 9"])


# ---------------------------------------------------------------- wrong use


def test_an_unknown_point_is_refused_with_the_list_of_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"no crash point 'toy_relay\.publishd'.*import the module.*toy_relay\.published"):
        crash.at("toy_relay.publishd")


def test_a_point_that_the_code_passes_must_be_declared() -> None:
    with pytest.raises(ConfigurationError, match=r"no crash point 'toy_relay\.undeclared'"), crash.at(CLAIMED):
        crash_point("toy_relay.undeclared")


def test_a_block_is_used_once() -> None:
    block = crash.at(CLAIMED)
    with pytest.raises(Crashed), block:
        crash_point(CLAIMED)
    with pytest.raises(ConfigurationError, match="again for each `with`"), block:
        pass


NOT_TYPED: Any = crash
WRONG: dict[str, Callable[[], object]] = {
    "pass 0": lambda: crash.at(CLAIMED, nth=0),
    "how": lambda: NOT_TYPED.at(CLAIMED, how="stop"),
    "no name": lambda: NOT_TYPED.at(7),
    "patience": lambda: crash.in_child(CLAIMED, dies, patience=0),
    "child to nowhere": lambda: crash.in_child("nowhere.at_all", dies),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_use_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigurationError):
        WRONG[wrong]()


# ---------------------------------------------------------------- saboteurs


def a_crash_knows_no_threads(patch: pytest.MonkeyPatch) -> None:
    def open_to_all(life: dying.Life) -> bool:
        return not life.over

    patch.setattr(dying.Life, "everywhere", property(open_to_all))


def the_dead_go_on(patch: pytest.MonkeyPatch) -> None:
    passes = dying.Life.passes

    def lively(life: dying.Life, point: str) -> None:
        if life.death is None:
            passes(life, point)

    patch.setattr(dying.Life, "passes", lively)


def a_block_never_closes(patch: pytest.MonkeyPatch) -> None:
    def never(_: dying.Life) -> bool:
        return False

    patch.setattr(dying.Life, "over", property(never, nothing))


def every_pass_is_the_first(patch: pytest.MonkeyPatch) -> None:
    def count(life: dying.Life, _: str) -> int:
        return life.nth

    patch.setattr(dying.Life, "count", count)


def on_asyncio(law: Callable[[], Any]) -> Callable[[], None]:
    def run() -> None:
        on("asyncio", law)

    run.__name__ = law.__name__
    return run


@each_kill(
    (a_crash_knows_no_threads, test_another_thread_lives_on),
    (a_crash_knows_no_threads, on_asyncio(test_a_task_from_before_lives_on)),
    (the_dead_go_on, test_the_dead_pass_no_other_point),
    (a_block_never_closes, on_asyncio(test_a_task_that_outlives_the_block_lives_on)),
    (every_pass_is_the_first, test_the_code_dies_on_the_pass_that_was_asked_for),
)
def test_the_laws_are_awake(row: tuple[Any, ...]) -> None:
    kills(*row)
