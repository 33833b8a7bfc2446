"""What an operator may say and see, how two failovers share what they know, and how it serves many threads, forks and clocks."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from finresilience import ConfigurationError, NoRouteError, Refused
from finresilience.cores.health import Health
from finresilience.events import RouteChanged
from finresilience.policies.failover import Failover
from finresilience.policies.routes import Route
from finresilience.testing import ManualClock, explore_threads, instant
from tests.laws.sabotage import each_kill, kills
from tests.laws.worlds import Down, Provider, still
from tests.policies.routing import failover, judged

if TYPE_CHECKING:
    from finresilience import Event


def both(heard: list[Event] | None = None, **more: Any) -> Any:
    return failover(lambda: "by acme", lambda: "by globex", heard=heard, **more)


def fail(router: Any, name: str, times: int = 7) -> None:
    """Let a provider look ill, as failing calls would."""
    for _ in range(times):
        router._legs[name].candidate.health.hear(router._now(), failed=True, took=0.1)


# --- an operator's word --------------------------------------------------------------------------------------------


def test_drained_by_an_operator_it_gets_nothing_until_the_last_handle_is_released() -> None:
    router = both()
    one, two = router.drain("acme"), router.drain("acme")
    assert {router.call() for _ in range(100)} == {"by globex"}
    one.release()
    one.release()
    assert router.call() == "by globex"
    two.release()
    assert router.call() == "by acme"


def test_a_drain_lasts_to_the_end_of_its_block() -> None:
    router = both()
    with router.drain("acme"):
        assert router.call() == "by globex"
    assert router.call() == "by acme"


def test_with_everybody_drained_by_operators_the_call_is_refused() -> None:
    router = both()
    with router.drain("acme"), router.drain("globex"):
        outcome = router.outcome()
        assert isinstance(outcome, Refused)
        assert isinstance(outcome.error, NoRouteError)
        assert "an operator has drained every route" in str(outcome.error)


def test_what_is_pinned_to_it_still_goes_there() -> None:
    router = failover(lambda pin: "by acme", lambda pin: "by globex", pin=lambda pin: pin)
    with router.drain("acme"):
        assert (router.call("acme"), router.call(None)) == ("by acme", "by globex")


def test_restored_it_takes_its_traffic_at_once_whoever_held_it_and_an_old_handle_does_nothing() -> None:
    router = both()
    stale = router.drain("acme")
    fail(router, "acme")
    router.restore("acme")
    assert router.call() == "by acme"
    router.drain("acme")
    stale.release()
    assert router.call() == "by globex"


@pytest.mark.parametrize("deed", ["drain", "restore"])
@pytest.mark.parametrize("name", ["amce", "", None, 7])
def test_a_provider_that_it_does_not_have_is_refused_by_name(deed: str, name: Any) -> None:
    with pytest.raises(ConfigurationError, match="one of acme, globex"):
        getattr(both(), deed)(name)


def test_every_change_is_told_with_its_reason_after_the_lock() -> None:
    heard: list[Event] = []
    free: list[bool] = []
    router = judged(Provider(*[Down()] * 7).charge, lambda: "by globex", heard=heard)
    router._publish.listeners += (lambda event: free.append(not router._board._lock.locked()),)
    for _ in range(7):
        router.call()
    with router.drain("globex"):
        pass
    changes = [(event.route, event.before, event.after, event.reason) for event in heard if isinstance(event, RouteChanged)]
    assert changes == [
        ("acme", "healthy", "drained", "failing: 7 of the last 7 calls failed"),
        ("globex", "healthy", "held", "an operator drained it"),
        ("globex", "held", "healthy", "the last operator let it go"),
    ]
    assert all(free)


def test_an_interrupt_that_a_listener_lets_through_ends_nothing_twice() -> None:
    def interrupts(event: Event) -> None:
        if isinstance(event, RouteChanged):
            raise KeyboardInterrupt

    router = judged(Provider(*[Down()] * 7).charge, lambda: "by globex")
    router._publish.listeners = (interrupts,)
    for _ in range(6):
        router.call()
    with pytest.raises(KeyboardInterrupt):
        router.call()
    assert (router.health()["acme"].under_way, router.statistics()["abandoned"]) == (0, 0)
    assert router.call() == "by globex"


def test_the_health_says_what_an_operator_asks() -> None:
    clock = still()

    def charge(fails: bool) -> str:
        clock.advance(0.2)
        if fails:
            raise Down
        return "paid"

    router = judged(charge, lambda fails: "by globex", clock=clock, slow_after=0.5)
    for fails in (False, False, False, True):
        router.outcome(fails)
    health = router.health()["acme"]
    assert (health.route, health.state, health.calls, health.failures, health.success_rate) == ("acme", "healthy", 4, 1, 0.75)
    assert (health.p95, health.usual_p95, health.under_way, health.paused_for) == (pytest.approx(0.2), 0.5, 0, 0.0)
    assert list(router.health()) == ["acme", "globex"]


# --- shared health -------------------------------------------------------------------------------------------------


def test_two_failovers_may_share_what_they_know_of_the_same_providers() -> None:
    clock = still()
    charges = both(clock=clock)
    refunds: Any = Failover(
        [Route("globex", lambda: "by globex"), Route("acme", lambda: "by acme")], name="refunds", health_of=charges, listeners=[]
    )
    fail(charges, "globex")
    assert refunds.call() == "by acme"
    with refunds.drain("acme"):
        assert charges.health()["acme"].state == "held"
    refunds.restore("globex")
    assert (charges.health()["globex"].state, refunds.call()) == ("healthy", "by globex")
    assert refunds._clock is clock


def test_what_is_shared_is_judged_by_one_set_of_rules_on_one_clock() -> None:
    charges = both()
    for more in ({"failure_rate": 0.5}, {"trickle": 0.1}, {"watch_every": 1.0}, {"clock": still()}):
        with pytest.raises(ConfigurationError, match="leave out"):
            Failover([Route("acme", lambda: 1)], health_of=charges, **more)  # pyright: ignore[reportArgumentType] - one of four
    with pytest.raises(ConfigurationError, match="health_of"):
        Failover([Route("acme", lambda: 1)], health_of="charges")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - the mistake


# --- many threads, other clocks, forks -----------------------------------------------------------------------------


def scenario() -> Any:
    router = failover(*[lambda turn, name=name: (name, turn) for name in ("acme", "globex")], spread=True, chance=Random(1).random)
    answers: list[Any] = []

    def pay() -> None:
        answers.extend(router.call(turn) for turn in range(3))

    def operate() -> None:
        with router.drain("acme"):
            router.health()
        router.restore("acme")

    def every_call_ended_once_and_nothing_is_left_over() -> None:
        assert Counter(turn for _, turn in answers) == {0: 2, 1: 2, 2: 2}
        health = router.health()
        assert [one.under_way for one in health.values()] == [0, 0]
        assert sum(one.calls for one in health.values()) >= 6 - health["acme"].calls
        assert {one.state for one in health.values()} == {"healthy"}

    return [pay, pay, operate], every_call_ended_once_and_nothing_is_left_over


def test_threads_and_operators_at_once_lose_nothing() -> None:
    explore_threads(scenario, seeds=20)


def test_on_another_ruling_clock_everything_goes_on() -> None:
    router: Any = Failover([Route("acme", lambda: "by acme"), Route("globex", lambda: "by globex")], listeners=[])
    fail(router, "acme")
    router._routing.pause(router._legs["globex"].candidate, router._now() + 30.0)
    with instant(ManualClock(1e6)) as clock:
        assert router.health()["globex"].paused_for == pytest.approx(30.0, abs=5.0)
        assert router.health()["acme"].calls == 7
        clock.advance(31.0)
        assert router.call() == "by globex"
    assert router.health()["acme"].calls == 7


def test_a_forked_child_has_no_calls_under_way() -> None:
    router: Any = None
    router = failover(lambda: router.forked() or router.health()["acme"].under_way)  # as `os.fork` would, in the middle of a call
    assert router.call() == 0
    assert router.health()["acme"].under_way == 0


def test_one_whose_making_failed_does_not_disturb_a_fork() -> None:
    half: Any = Failover.__new__(Failover)
    half.forked()


# --- are they awake? -----------------------------------------------------------------------------------------------


def one_release_releases_all(patch: pytest.MonkeyPatch) -> None:
    let_go = Health.let_go

    def generous(self: Health, handle: object, now: float) -> None:
        self._holds = {handle}
        let_go(self, handle, now)

    patch.setattr(Health, "let_go", generous)


def held_ones_still_serve(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Health, "held", False)


@each_kill(
    (one_release_releases_all, test_drained_by_an_operator_it_gets_nothing_until_the_last_handle_is_released),
    (held_ones_still_serve, test_with_everybody_drained_by_operators_the_call_is_refused),
)
def test_a_saboteur_is_caught(row: tuple[Any, ...]) -> None:
    kills(*row)
