"""The bench of the durable rooms: what its arithmetic says, and that nobody is fast by leaving work undone."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from benchmarks.durable.contests import Contest, Contestant, Goal, Pace, Result, race

if TYPE_CHECKING:
    from collections.abc import Sequence

ROUNDS = Pace(seconds=0.0, least=3)


class Watch:
    """A clock that moves when somebody works."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


class Worker(Contestant):
    """Takes so many seconds a row, and so many more on each run after the two that warm up."""

    def __init__(self, watch: Watch, seconds: float, *, slower: Sequence[float] = (), does: float = 1.0, tidies: float = 0.0) -> None:
        self.watch, self.seconds, self.slower, self.does, self.tidies = watch, seconds, [0.0, 0.0, *slower], does, tidies
        self.done = 0
        self.rows: list[int] = []
        self.closed = False

    async def run(self, n: int) -> float | None:
        self.rows.append(n)
        self.watch.at += n * (self.seconds + (self.slower.pop(0) if self.slower else 0.0))
        self.done = int(n * self.does)
        ended = self.watch.at
        self.watch.at += self.tidies
        return ended

    async def check(self, n: int) -> None:
        if self.done != n:
            raise RuntimeError(f"it left {n - self.done} of {n} rows")

    async def close(self) -> None:
        self.closed = True


def contest(goals: Sequence[Goal] = (), rows: int | None = 100, **workers: Contestant) -> Contest:
    return Contest(name="n", base="floor", contestants={name: partial(same, one) for name, one in workers.items()}, goals=goals, rows=rows)


def same(one: Contestant) -> Contestant:
    return one


async def test_a_contestant_that_takes_half_as_long_has_the_ratio_two() -> None:
    watch = Watch()
    told = await race(contest(floor=Worker(watch, 0.02), ours=Worker(watch, 0.01)), ROUNDS, watch)
    assert round(told.ratio("ours", "floor"), 9) == 2.0
    assert round(told.rate("ours"), 6) == 100.0


async def test_a_ratio_is_the_median_of_the_rounds_and_not_the_ratio_of_medians() -> None:
    told = Result({"floor": [100.0, 50.0, 10.0], "ours": [200.0, 10.0, 20.0]})
    assert told.ratio("ours", "floor") == 2.0
    assert told.rate("ours") / told.rate("floor") == 0.4


async def test_one_slow_round_moves_no_ratio() -> None:
    watch = Watch()
    told = await race(contest(floor=Worker(watch, 0.02), ours=Worker(watch, 0.01, slower=[5.0])), ROUNDS, watch)
    assert round(told.ratio("ours", "floor"), 9) == 2.0


async def test_what_is_tidied_up_after_the_job_is_not_counted() -> None:
    watch = Watch()
    told = await race(contest(floor=Worker(watch, 0.01), ours=Worker(watch, 0.01, tidies=9.0)), ROUNDS, watch)
    assert round(told.ratio("ours", "floor"), 9) == 1.0


async def test_whoever_leaves_rows_undone_is_broken_and_not_fast() -> None:
    watch = Watch()
    told = await race(contest(floor=Worker(watch, 0.01), ours=Worker(watch, 0.001, does=0.9)), ROUNDS, watch)
    assert list(told.rates) == ["floor"]
    assert told.absent == {"ours": "broken: RuntimeError: it left 20 of 200 rows"}


async def test_whoever_leaves_rows_undone_in_a_later_round_is_broken_too() -> None:
    class Weary(Worker):
        async def run(self, n: int) -> float | None:
            self.does = 0.5 if len(self.rows) == 4 else 1.0
            return await super().run(n)

    watch = Watch()
    told = await race(contest(floor=Worker(watch, 0.01), ours=Weary(watch, 0.001)), ROUNDS, watch)
    assert told.absent == {"ours": "broken: RuntimeError: it left 50 of 100 rows"}
    assert list(told.rates) == ["floor"]


async def test_a_peer_that_is_not_installed_is_told_and_the_others_run() -> None:
    class Peer(Worker):
        async def open(self) -> None:
            raise ModuleNotFoundError(name="txoutbox")

        async def close(self) -> None:
            raise AttributeError("there is nothing to close")

    watch = Watch()
    told = await race(contest(floor=Worker(watch, 0.01), peer=Peer(watch, 0.01)), ROUNDS, watch)
    assert told.absent == {"peer": "txoutbox is not installed"}
    assert len(told.rates["floor"]) == 3


async def test_everybody_who_was_opened_is_closed() -> None:
    watch = Watch()
    floor, ours = Worker(watch, 0.01), Worker(watch, 0.01, does=0.5)
    await race(contest(floor=floor, ours=ours), ROUNDS, watch)
    assert floor.closed
    assert ours.closed


async def test_everybody_gets_the_rows_that_the_contest_says() -> None:
    watch = Watch()
    floor = Worker(watch, 0.01)
    await race(contest(floor=floor, rows=700), ROUNDS, watch)
    assert floor.rows[2:] == [700, 700, 700]


async def test_without_a_number_of_rows_everybody_fills_a_sample() -> None:
    watch = Watch()
    slow, fast = Worker(watch, 1e-4), Worker(watch, 1e-5)
    await race(contest(floor=slow, ours=fast, rows=None), Pace(seconds=0.0, least=1, sample=0.25), watch)
    assert 2499 <= slow.rows[-1] <= 2501
    assert 24990 <= fast.rows[-1] <= 25010


def test_a_goal_is_judged_by_the_fastest_of_several() -> None:
    told = Result({"ours": [100.0], "one": [20.0], "two": [40.0]})
    assert told.kept(Goal("ours", ("one", "two"), 2.0)) == ("two", 2.5)


def test_a_goal_is_not_judged_where_nobody_to_compare_with_was_there() -> None:
    told = Result({"ours": [100.0]})
    assert told.kept(Goal("ours", ("one",), 2.0)) is None
    assert told.kept(Goal("theirs", ("ours",), 2.0)) is None


def test_goals_name_contestants_of_their_contest() -> None:
    from benchmarks.durable.__main__ import contests
    from benchmarks.durable.places import Place

    with Place() as place:  # which starts no server before somebody builds a contestant
        every = contests(place)
    assert len({each.name for each in every}) == len(every)
    for each in every:
        assert each.base in each.contestants
        assert {name for goal in each.goals for name in (goal.who, *goal.to)} <= set(each.contestants)
        assert all(isinstance(build, partial) for build in each.contestants.values())
