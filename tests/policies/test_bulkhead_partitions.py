"""A bulkhead for each tenant: none takes the places of another, none is forgotten while somebody is in it, and all share a total."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from finresilience import BulkheadFullError, ConfigurationError, Pipeline
from finresilience.cores.bulkhead import BulkheadCore
from finresilience.policies import base
from finresilience.policies.bulkhead import Bulkhead
from finresilience.policies.partitions import Partition, Partitions
from finresilience.testing import VirtualClock, explore_threads
from tests.laws.sabotage import each_kill, kills
from tests.laws.worlds import both_loops, on, still

if TYPE_CHECKING:
    from finresilience.testing.stories import ThreadStory


def family(limit: int = 1, *, at_most: int = 2, total: Any = None, **more: Any) -> Partitions:
    settings: dict[str, Any] = {"name": "acme", "clock": still(), "listeners": [], **more}
    return Bulkhead(limit, **settings).per(str, at_most=at_most, total=total)


def test_each_key_has_the_whole_limit_for_itself() -> None:
    tenants = family(2)
    assert all(tenants.of(name).take() is not None for name in ("north", "north", "south", "south"))
    assert tenants.of("north").take() is None
    assert tenants.choose(("south",), {}).take() is None


def test_a_place_goes_back_to_the_partition_it_came_from() -> None:
    tenants = family()
    north = tenants.of("north")
    hold = north.take()
    tenants.of("south").leave(hold)  # whoever gives it back
    assert north.take() is not None


def test_a_partition_in_which_somebody_is_is_never_forgotten() -> None:
    tenants = family(at_most=2)
    north = tenants.of("north").take()
    tenants.of("south").take()
    assert tenants.of("west").take() is None
    with pytest.raises(BulkheadFullError, match="acme"):
        tenants.of("west").enter()
    tenants.of("north").leave(north)
    assert tenants.of("west").take() is not None  # north's partition made room
    assert set(tenants.statistics()) == {"south", "west"}


def test_the_least_recently_used_empty_partition_makes_room() -> None:
    tenants = family(at_most=2)
    for name in ("north", "south", "north", "west"):
        with tenants.of(name).guard():
            pass
    assert list(tenants.statistics()) == ["north", "west"]


def test_a_gate_kept_for_long_is_of_the_partition_that_stands_for_its_key_now() -> None:
    tenants = family(at_most=1)
    kept = tenants.of("north")
    with kept.guard(), pytest.raises(BulkheadFullError):
        tenants.of("south").enter()
    tenants.of("south").leave(tenants.of("south").take())  # north is forgotten
    assert kept.take() is not None
    assert tenants.of("north").take() is None  # it is the same limit


def test_a_partition_that_was_half_forgotten_is_made_anew() -> None:
    tenants = family()
    tenants.of("north").leave(tenants.of("north").take())
    assert tenants._kept["north"].close()  # and then somebody was interrupted
    assert tenants.of("north").take() is not None


def test_a_waiter_whose_partition_was_forgotten_under_it_asks_its_heir(monkeypatch: pytest.MonkeyPatch) -> None:
    tenants = family(queue=1, max_wait=1.0)
    asked = list[object]()
    room = Partitions.room

    def forgotten(self: Partitions, key: Any) -> Any:
        found = room(self, key)
        asked.append(found)
        if len(asked) == 1:
            assert found is not None
            found.close()
        return found

    monkeypatch.setattr(Partitions, "room", forgotten)
    assert tenants.of("north").enter() is not None
    assert len(set(map(id, asked))) == 2
    asked.clear()
    assert tenants.of("south").take() is not None
    assert len(set(map(id, asked))) == 2


@both_loops
def test_an_async_waiter_too_asks_the_heir_of_a_forgotten_partition_and_is_refused_where_all_are_in_use(backend: str) -> None:
    async def main() -> None:
        tenants = family(queue=1, max_wait=1.0, at_most=1, clock=VirtualClock.current())
        north = tenants.room("north")
        assert north is not None
        rooms = [north]

        def forgotten(key: str) -> Bulkhead | None:
            return rooms.pop() if rooms else Partitions.room(tenants, key)

        north.close()
        gate = tenants.of("north")
        gate._family = cast("Partitions", Stand(forgotten, tenants))
        hold = await gate.aenter()
        gate.leave(hold)
        async with tenants.of("north").guard():
            with pytest.raises(BulkheadFullError, match="acme"):
                await tenants.of("south").aenter()

    on(backend, main)


class Stand:
    """Stands in for a family, and answers for its rooms by itself."""

    def __init__(self, room: Any, family: Partitions) -> None:
        self.room, self.total, self.refusal = room, family.total, family.refusal


def test_a_used_partition_is_passed_over_for_an_empty_one() -> None:
    tenants = family(at_most=2)
    tenants.of("north").take()  # the least recently used, but somebody is there
    with tenants.of("south").guard():
        pass
    assert tenants.of("west").take() is not None
    assert list(tenants.statistics()) == ["north", "west"]


# --- the total ---------------------------------------------------------------------------------------------------------


def test_all_partitions_together_stay_within_the_total() -> None:
    tenants = family(2, total=3, at_most=9)
    holds = [tenants.of(name).take() for name in ("north", "north", "south")]
    assert None not in holds
    assert tenants.of("west").take() is None
    with pytest.raises(BulkheadFullError, match=r"acme\.total"):
        tenants.of("west").enter()
    assert all(told["at_work"] == 0 for name, told in tenants.statistics().items() if name == "west")
    tenants.of("north").leave(holds[0])
    assert tenants.of("west").take() is not None


def test_a_total_may_be_a_bulkhead_that_others_use_too() -> None:
    everything = Bulkhead(1, name="everything", clock=still(), listeners=[])
    one, two = family(total=everything), family(total=everything)
    with one.of("north").guard():
        assert two.of("north").take() is None
    assert two.of("north").take() is not None


def test_a_tenant_that_is_full_takes_nothing_of_the_total() -> None:
    tenants = family(1, total=2)
    tenants.of("north").take()
    assert tenants.of("north").take() is None
    assert tenants.of("south").take() is not None


@pytest.mark.parametrize("form", ["take", "enter"])
def test_an_error_on_the_way_into_the_total_gives_the_own_place_back(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tenants = family(total=1)
    total = tenants.total
    assert total is not None
    real = getattr(Bulkhead, form)

    def interrupted(self: Bulkhead, *args: Any) -> Any:
        if self is total:
            raise KeyboardInterrupt
        return real(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Bulkhead, form, interrupted)
        with pytest.raises(KeyboardInterrupt):
            getattr(tenants.of("north"), form)()
    assert tenants.of("north").take() is not None


def test_a_total_that_cannot_take_its_place_back_keeps_nobody_in_the_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    tenants = family(total=1)
    total, real, hold = tenants.total, Bulkhead.leave, tenants.of("north").take()

    def interrupted(self: Bulkhead, hold: object) -> None:
        real(self, hold)
        if self is total:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Bulkhead, "leave", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tenants.of("north").leave(hold)
    assert tenants.of("north").take() is not None


@both_loops
def test_tenants_share_the_total_in_the_order_in_which_they_reach_it_and_a_flood_of_one_holds_up_nobody(backend: str) -> None:
    async def main() -> tuple[list[str], float]:
        template = Bulkhead(1, queue=50, max_wait=60.0, name="acme", listeners=[])
        tenants, came = template.per(str, at_most=3, total=2), list[str]()

        async def call(name: str) -> None:
            async with tenants.of(name).guard():
                came.append(name)
                await anyio.sleep(1)

        async with anyio.create_task_group() as tasks:
            for name in (*["flood"] * 8, "north", "south"):
                tasks.start_soon(call, name)
                await anyio.wait_all_tasks_blocked()
        assert tenants.total is not None
        assert tenants.total.core.idle
        assert all(told["at_work"] == told["waiting"] == 0 for told in tenants.statistics().values())
        return came[:4], VirtualClock.current().monotonic()

    assert on(backend, main) == (["flood", "north", "south", "flood"], 8.0)


# --- as a decorator, and in a pipeline ---------------------------------------------------------------------------------


def test_a_call_is_let_in_by_the_partition_of_its_arguments() -> None:
    tenants = Bulkhead(1, name="acme", listeners=[]).per(itemgetter("tenant"), at_most=3, total=2)
    piped = Pipeline("charge", tenants, listeners=[])

    def charge(payment: dict[str, str]) -> str:
        with pytest.raises(BulkheadFullError):
            tenants.of(payment["tenant"]).enter()
        return payment["tenant"]

    for guarded in (tenants(charge), piped(charge)):
        assert [guarded({"tenant": name}) for name in ("north", "south")] == ["north", "south"]
    assert tenants.outcome(charge, {"tenant": "north"}).unwrap() == "north"
    assert tenants.total is not None
    assert tenants.total.core.idle


@both_loops
def test_an_async_call_waits_for_its_own_partition_only(backend: str) -> None:
    async def main() -> list[tuple[str, float]]:
        template = Bulkhead(1, queue=5, max_wait=60.0, listeners=[])
        tenants, came = template.per(str, at_most=3), list[tuple[str, float]]()

        @tenants
        async def call(tenant: str) -> None:
            came.append((tenant, VirtualClock.current().monotonic()))
            await anyio.sleep(1)

        async with anyio.create_task_group() as tasks:
            for name in ("north", "north", "south"):
                tasks.start_soon(call, name)
                await anyio.wait_all_tasks_blocked()
        assert all(told["at_work"] == 0 for told in tenants.statistics().values())
        return came

    assert on(backend, main) == [("north", 0.0), ("south", 0.0), ("north", 1.0)]


# --- the rest of a policy ----------------------------------------------------------------------------------------------


def test_a_resized_family_is_resized_in_every_partition_there_is_and_will_be() -> None:
    tenants = family(1)
    tenants.of("north").take()
    tenants.resize(2)
    assert [tenants.of(name).take() is not None for name in ("north", "north", "south", "south")] == [True, False, True, True]


def test_in_a_forked_child_every_partition_is_empty() -> None:
    tenants = family(total=1)
    hold = tenants.of("north").take()
    base._before_fork()
    base._after_in_child()
    mine = tenants.of("north").take()
    assert mine is not None
    tenants.of("north").leave(hold)
    assert tenants.of("north").take() is None


def test_a_family_in_a_pipeline_follows_the_pipelines_clock_in_every_partition() -> None:
    clock = still()
    tenants = Bulkhead(1, listeners=[]).per(str, at_most=3, total=5)
    tenants.of("north").take()
    Pipeline("acme", tenants, clock=clock, listeners=[])
    tenants.of("south").take()
    rooms = [tenants.room("north"), tenants.room("south"), tenants.total]
    assert all(room is not None and room._clock is clock for room in rooms)


@pytest.mark.parametrize("arguments", [{"key": "tenant"}, {"at_most": 0}, {"total": 0}, {"total": True}, {"total": "5"}])
def test_arguments_that_cannot_work_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        bad: dict[str, Any] = {"key": str, "at_most": 1, **arguments}
        Bulkhead(1).per(**bad)


def test_a_key_that_cannot_be_hashed_is_refused_and_a_strange_one_is_shown_plainly() -> None:
    def unhashable() -> Any:
        return []

    tenants = Bulkhead(1, name="acme", listeners=[]).per(unhashable, at_most=2)
    with pytest.raises(ConfigurationError, match="hashed"):
        tenants.choose((), {})
    tenants.of("north\n" * 50).take()
    room = tenants.room("north\n" * 50)
    assert room is not None
    assert room.name.startswith("acme[north?north?")
    assert len(room.name) <= 200


# --- threads -----------------------------------------------------------------------------------------------------------


def calls_while_a_partition_is_forgotten() -> ThreadStory:
    """One partition at a time is kept; calls of two tenants forget each other's whenever they can."""
    tenants = Bulkhead(1, listeners=[]).per(str, at_most=1, total=2)
    inside: list[str] = []

    def calls(name: str) -> None:
        gate: Partition = tenants.of(name)
        for _ in range(2):
            hold = gate.take()
            if hold is not None:
                inside.append(name)
                for _ in range(10):
                    assert inside == [name]  # there is one partition, of one place
                inside.clear()
                gate.leave(hold)

    def nobody_is_left() -> None:
        assert tenants.total is not None
        assert tenants.total.core.idle

    return [lambda: calls("north"), lambda: calls("south"), lambda: calls("north")], nobody_is_left


def test_a_limit_holds_while_partitions_are_forgotten_and_made_anew() -> None:
    explore_threads(calls_while_a_partition_is_forgotten, seeds=150)


def a_partition_in_use_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    def close(self: BulkheadCore) -> bool:
        return True

    patch.setattr(BulkheadCore, "close", close)


def a_forgotten_partition_still_lets_callers_in(patch: pytest.MonkeyPatch) -> None:
    def close(self: BulkheadCore) -> bool:
        return self.idle

    patch.setattr(BulkheadCore, "close", close)


@each_kill(
    (a_partition_in_use_is_forgotten, test_a_partition_in_which_somebody_is_is_never_forgotten),
    (a_partition_in_use_is_forgotten, test_a_limit_holds_while_partitions_are_forgotten_and_made_anew),
    (a_forgotten_partition_still_lets_callers_in, test_a_limit_holds_while_partitions_are_forgotten_and_made_anew),
)
def test_its_saboteur_is_found_out(row: tuple[Any, ...]) -> None:
    kills(*row)
