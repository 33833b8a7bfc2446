"""One bulkhead under threads, each of which may be stopped between any two lines."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import pytest

from finresilience import BulkheadFullError
from finresilience.cores.bulkhead import BulkheadCore, Entry, Ticket
from finresilience.policies import bulkhead as module
from finresilience.policies.bulkhead import Bulkhead
from finresilience.testing import CounterexampleError, ManualClock, explore_threads
from tests.concurrency.circuits import SEEDS
from tests.laws.sabotage import each_kill, kills
from tests.laws.worlds import still

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.testing.stories import ThreadStory

STAY = 40  # how often a caller looks round: moments at which others may come
PATIENCE = 1_000.0  # seconds of a clock that nobody moves, but where a story says so


def bulkhead(clock: ManualClock, *, limit: int = 1, queue: int = 5, max_wait: float = PATIENCE) -> Bulkhead:
    return Bulkhead(limit, queue=queue, max_wait=max_wait, lease=PATIENCE, clock=clock, listeners=[])


def callers_that_wait() -> ThreadStory:
    """Three threads, one place, and no time: whoever waits can only be let in by whoever leaves."""
    policy, inside, done = bulkhead(still()), list[int](), list[int]()

    def caller() -> None:
        with policy.guard():
            inside.append(1)
            for _ in range(STAY):
                assert len(inside) == 1
            inside.pop()
        done.append(1)

    def all_were_served() -> None:
        assert len(done) == 3
        assert policy.core.idle
        assert policy._calm

    return [caller] * 3, all_were_served


def callers_in_a_queue_too_short() -> ThreadStory:
    """Two places and a queue of one: nobody is inside as a third, and whoever is refused holds nothing."""
    policy, inside, ended = bulkhead(still(), limit=2, queue=1), list[int](), list[str]()

    def caller() -> None:
        try:
            with policy.guard():
                inside.append(1)
                for _ in range(STAY):
                    assert len(inside) <= 2
                inside.pop()
            ended.append("served")
        except BulkheadFullError:
            ended.append("refused")

    def the_books_balance() -> None:
        told = policy.statistics()
        assert (len(ended), told["refused_full"], told["refused_late"]) == (4, ended.count("refused"), 0)
        assert policy.core.idle

    return [caller] * 4, the_books_balance


def a_wait_runs_out_as_the_place_comes_free() -> ThreadStory:
    """He is let in, or refused because his time was over: not both, not neither."""
    clock = still()
    policy, ended = bulkhead(clock, max_wait=1.0), list[str]()
    hold = policy.take()

    def waiter() -> None:
        try:
            with policy.guard():
                ended.append("in")
        except BulkheadFullError as refusal:
            ended.append("late" if refusal.waited >= 1.0 else "early")

    def holder() -> None:
        while clock.monotonic() < 0.9:
            pass  # until a wait that began at once is nearly over
        policy.leave(hold)

    def time() -> None:
        for _ in range(20):
            clock.advance(0.1)

    def one_end() -> None:
        assert ended in (["in"], ["late"])
        assert policy.core.idle

    return [waiter, holder, time], one_end


def somebody_resizes_while_others_come_and_go() -> ThreadStory:
    policy, inside = bulkhead(still(), limit=2), list[int]()

    def person() -> None:
        policy.resize(1)
        policy.resize(3)
        policy.resize(1)

    def caller() -> None:
        with policy.guard():
            inside.append(1)
            for _ in range(STAY):
                assert len(inside) <= 3
            inside.pop()

    def the_last_word_holds() -> None:
        assert policy.core.idle
        assert policy.take() is not None
        assert policy.take() is None

    return [person, caller, caller, caller], the_last_word_holds


def a_place_is_given_back_by_two_at_once() -> ThreadStory:
    policy = bulkhead(still(), limit=2)
    hold = policy.take()
    waiting: list[object] = []

    def leaver() -> None:
        policy.leave(hold)

    def caller() -> None:
        with suppress(BulkheadFullError):
            waiting.append(policy.enter())

    def one_place_came_free() -> None:
        assert len(policy.core.inside) == len(waiting) == 2
        assert policy.take() is None

    return [leaver, leaver, caller, caller], one_place_came_free


STORIES: dict[str, Callable[[], ThreadStory]] = {
    story.__name__: story
    for story in (
        callers_that_wait,
        callers_in_a_queue_too_short,
        a_wait_runs_out_as_the_place_comes_free,
        somebody_resizes_while_others_come_and_go,
        a_place_is_given_back_by_two_at_once,
    )
}


@pytest.mark.parametrize("story", STORIES)
def test_no_schedule_of_threads_breaks(story: str) -> None:
    assert explore_threads(STORIES[story], seeds=SEEDS).distinct > SEEDS * 0.9  # or the seeds all told the same story


# --- the way that takes no lock, between any two bytecodes -------------------------------------------------------------


def two_take_the_last_place() -> ThreadStory:
    policy, holds = bulkhead(still(), limit=2), list[object]()
    policy.take()

    def taker() -> None:
        holds.append(policy.take())

    def one_has_it() -> None:
        assert sum(hold is not None for hold in holds) == 1
        assert len(policy.core.inside) == 2
        assert policy._calm

    return [taker] * 3, one_has_it


def a_place_comes_free_as_somebody_begins_to_wait() -> ThreadStory:
    """Nobody sleeps here: whoever stands in the queue at the end beside a free place would sleep for long."""
    policy = bulkhead(still())
    hold, ticket = policy.take(), policy._ticket(PATIENCE)

    def leaver() -> None:
        policy.leave(hold)

    def comer() -> None:
        policy._ask(ticket)

    def he_is_let_in() -> None:
        assert not policy.core.waiting
        assert ticket in policy.core.inside or ticket in policy.core.granted

    return [leaver, comer], he_is_let_in


def somebody_begins_to_wait_as_another_takes_and_leaves() -> ThreadStory:
    policy = bulkhead(still())
    ticket, holds = policy._ticket(PATIENCE), list[object]()

    def taker() -> None:
        holds.append(policy.take())

    def comer() -> None:
        policy._ask(ticket)

    def one_of_them_is_in() -> None:
        let_in = ticket in policy.core.inside or ticket in policy.core.granted
        assert let_in == (holds == [None])
        assert len(policy.core.inside) + len(policy.core.granted) == 1

    return [taker, comer], one_of_them_is_in


def some_leave_some_take_while_the_limit_falls() -> ThreadStory:
    policy, taken = bulkhead(still(), limit=2), list[object]()
    holds = [policy.take(), policy.take()]

    def leaver() -> None:
        policy.leave(holds[0])

    def taker() -> None:
        taken.append(policy.take())

    def person() -> None:
        policy.resize(1)

    def no_more_than_before_and_nobody_follows() -> None:
        assert len(policy.core.inside) <= 2
        assert policy.take() is None
        policy.leave(holds[1])
        assert (policy.take() is None) == any(hold is not None for hold in taken)

    return [leaver, taker, taker, person], no_more_than_before_and_nobody_follows


LOCKLESS: dict[str, Callable[[], ThreadStory]] = {
    story.__name__: story
    for story in (
        two_take_the_last_place,
        a_place_comes_free_as_somebody_begins_to_wait,
        somebody_begins_to_wait_as_another_takes_and_leaves,
        some_leave_some_take_while_the_limit_falls,
    )
}


@pytest.mark.parametrize("story", LOCKLESS)
def test_no_order_of_bytecodes_breaks(story: str) -> None:
    assert explore_threads(LOCKLESS[story], seeds=2 * SEEDS, opcodes=True).distinct > SEEDS


def takers_look_first(patch: pytest.MonkeyPatch) -> None:
    def take(self: Bulkhead) -> object:
        hold = object()
        if len(self.core.inside) >= self.core.limit:
            return None
        self.core.inside.add(hold)
        return hold

    patch.setattr(Bulkhead, "take", take)


def takers_that_go_out_again_tell_nobody(patch: pytest.MonkeyPatch) -> None:
    def take(self: Bulkhead) -> object:
        core, hold = self.core, object()
        core.inside.add(hold)
        if self._calm and len(core.inside) <= core.limit:
            return hold
        core.inside.discard(hold)
        return None

    patch.setattr(Bulkhead, "take", take)


def leavers_look_first(patch: pytest.MonkeyPatch) -> None:
    def leave(self: Bulkhead, hold: object) -> None:
        calm = self._calm
        self.core.inside.discard(hold)
        if not calm:
            self._left(hold)

    patch.setattr(Bulkhead, "leave", leave)


def decisions_do_not_say_that_they_begin(patch: pytest.MonkeyPatch) -> None:
    decide = Bulkhead._decide

    def unsaid(self: Bulkhead, deed: Any, otherwise: Any, *, can_wait: bool) -> Any:
        def silently(core: BulkheadCore, now: float) -> Any:
            self._calm = True
            return deed(core, now)

        return decide(self, silently, otherwise, can_wait=can_wait)

    patch.setattr(Bulkhead, "_decide", unsaid)


@pytest.mark.parametrize(
    ("saboteur", "story"),
    [
        (takers_look_first, two_take_the_last_place),
        (takers_look_first, some_leave_some_take_while_the_limit_falls),
        (takers_that_go_out_again_tell_nobody, somebody_begins_to_wait_as_another_takes_and_leaves),
        (leavers_look_first, a_place_comes_free_as_somebody_begins_to_wait),
        (decisions_do_not_say_that_they_begin, a_place_comes_free_as_somebody_begins_to_wait),
    ],
)
def test_a_way_without_a_lock_that_is_wrong_is_found_out(
    saboteur: Callable[[pytest.MonkeyPatch], None], story: Callable[[], ThreadStory], monkeypatch: pytest.MonkeyPatch
) -> None:
    saboteur(monkeypatch)
    with pytest.raises(CounterexampleError):
        explore_threads(story, seeds=200 * SEEDS)  # it ends at the first that fails


class NoLock:
    def acquire(self, *_: object, **__: object) -> Literal[True]:
        return True

    def release(self) -> None: ...
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> Literal[False]:
        return False


@pytest.mark.parametrize("story", ["callers_that_wait", "callers_in_a_queue_too_short", "somebody_resizes_while_others_come_and_go"])
def test_without_its_lock_some_schedule_goes_wrong_in(story: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RLock", NoLock)
    with pytest.raises(CounterexampleError):
        explore_threads(STORIES[story], seeds=20 * SEEDS)  # it ends at the first that fails


def leaving_is_counting(patch: pytest.MonkeyPatch) -> None:
    def leave(self: Bulkhead, hold: object) -> None:
        with self._door:
            self.core.limit += 1

    patch.setattr(Bulkhead, "leave", leave)


def one_who_is_refused_is_let_in_too(patch: pytest.MonkeyPatch) -> None:
    ask = BulkheadCore.ask

    def both(self: BulkheadCore, ticket: Ticket, now: float) -> float | Entry:
        answer = ask(self, ticket, now)
        if answer is Entry.LATE:
            self.inside.add("him too")
        return answer

    patch.setattr(BulkheadCore, "ask", both)


def those_who_wait_are_let_in_beside_those_inside(patch: pytest.MonkeyPatch) -> None:
    settle = BulkheadCore._settle

    def generous(self: BulkheadCore, now: float) -> None:
        self.limit += 1
        settle(self, now)
        self.limit -= 1

    patch.setattr(BulkheadCore, "_settle", generous)


def law_callers_that_wait_are_served() -> None:
    test_no_schedule_of_threads_breaks("callers_that_wait")


def law_a_place_is_one_place() -> None:
    test_no_schedule_of_threads_breaks("a_place_is_given_back_by_two_at_once")


def law_a_wait_has_one_end() -> None:
    test_no_schedule_of_threads_breaks("a_wait_runs_out_as_the_place_comes_free")


@each_kill(
    (those_who_wait_are_let_in_beside_those_inside, law_callers_that_wait_are_served),
    (leaving_is_counting, law_a_place_is_one_place),
    (one_who_is_refused_is_let_in_too, law_a_wait_has_one_end),
)
def test_its_saboteur_is_found_out(row: tuple[Callable[..., None], ...]) -> None:
    kills(*row)
