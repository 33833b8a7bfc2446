"""May trouble be made here? A permit says why, where and until when, and is looked at before each strike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from finresilience import ConfigurationError
from finresilience.testing import ManualClock, explore_threads, instant
from finresilience.testing.chaos import Chaos
from finresilience.testing.faults import MOVES, Fault, FaultKind, FaultPlan
from finresilience.testing.permit import ChaosPermit
from tests.laws.sabotage import each_kill, kills

if TYPE_CHECKING:
    from collections.abc import Callable

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
RESETS = FaultPlan([Fault(kind=FaultKind.RESET)])


@pytest.fixture(autouse=True)
def staging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_ENV", "staging")


def permit(why: str = "game day", **more: Any) -> ChaosPermit:
    told: dict[str, Any] = {"until": NOON + timedelta(hours=2), "variable": "APP_ENV", "allowed": ["staging"]} | more
    return ChaosPermit(why, **told)


def at_noon(**more: Any) -> Chaos:
    told: dict[str, Any] = {"permit": permit(), "clock": ManualClock(utc=NOON), "listeners": []} | more
    return Chaos(RESETS, **told)


def reaches(chaos: Chaos) -> bool:
    """Return whether a call comes through."""
    try:
        return chaos.call(lambda: True)
    except ConnectionResetError:
        return False


def test_chaos_without_a_permit_is_refused_and_told_how_to_get_one() -> None:
    with pytest.raises(ConfigurationError, match=r"off by construction.*ChaosPermit\.in_test\('why'\).*until=.*allowed="):
        Chaos(RESETS)


def test_a_yes_is_not_a_permit() -> None:
    yes: Any = True
    with pytest.raises(ConfigurationError, match="off by construction"):
        Chaos(RESETS, permit=yes)


def test_a_permit_holds_where_it_was_given_for() -> None:
    assert permit().refusal(NOON) is None
    assert not reaches(at_noon())


def test_another_environment_refuses() -> None:
    with pytest.raises(ConfigurationError, match="APP_ENV is 'staging' here, and it allows loadtest or sandbox"):
        at_noon(permit=permit(allowed=["sandbox", "loadtest"]))


def test_an_environment_that_does_not_say_where_it_is_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APP_ENV")
    with pytest.raises(ConfigurationError, match="APP_ENV is not set"):
        at_noon()


def test_a_permit_of_yesterday_refuses() -> None:
    with pytest.raises(ConfigurationError, match="it ended at 2026-03-02 12:00:00 UTC"):
        at_noon(permit=permit(until=NOON))


def test_a_permit_for_ever_refuses() -> None:
    week = timedelta(days=7)
    assert permit(until=NOON + week).refusal(NOON) is None
    with pytest.raises(ConfigurationError, match="more than 7 days"):
        at_noon(permit=permit(until=NOON + week + timedelta(seconds=1)))


def test_a_permit_ends_while_the_service_runs() -> None:
    clock = ManualClock(utc=NOON)
    chaos = at_noon(clock=clock)
    assert not reaches(chaos)
    clock.advance(timedelta(hours=2))
    assert reaches(chaos)
    assert chaos.statistics()["held_back"] == 1


def test_a_permit_is_taken_back_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    chaos = at_noon()
    monkeypatch.setenv("APP_ENV", "production")
    assert reaches(chaos)
    assert chaos.statistics() == {"calls": 1, "injected": 0, "held_back": 1, "listener_failures": 0}


def test_no_more_is_injected_than_the_permit_allows() -> None:
    chaos = at_noon(permit=permit(at_most=3))
    assert [reaches(chaos) for _ in range(5)] == [False, False, False, True, True]


def test_threads_share_what_the_permit_allows() -> None:
    def three_threads() -> tuple[list[Callable[[], object]], Callable[[], None]]:
        chaos, through = at_noon(permit=permit(at_most=2)), list[bool]()

        def call() -> None:
            through.append(reaches(chaos))

        def two_were_struck() -> None:
            assert sorted(through) == [False, False, True]
            assert [strike.attempt for strike in chaos.injected] in ([1, 2], [1, 3], [2, 1], [2, 3], [3, 1], [3, 2])

        return [call, call, call], two_were_struck

    explore_threads(three_threads, seeds=60)


def test_a_kind_that_the_permit_does_not_allow_is_refused_at_construction() -> None:
    harmless = permit(kinds=set(FaultKind) - MOVES)
    assert not reaches(at_noon(permit=harmless))
    with pytest.raises(ConfigurationError, match="does not allow timeout_after"):
        Chaos(FaultPlan([Fault(kind=FaultKind.TIMEOUT_AFTER)]), permit=harmless, clock=ManualClock(utc=NOON))


def test_a_permit_for_tests_holds_under_pytest() -> None:
    assert not reaches(Chaos(RESETS, permit=ChaosPermit.in_test("a law"), listeners=[]))


def test_a_permit_for_tests_holds_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTEST_VERSION", "PYTEST_CURRENT_TEST"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError, match="holds in tests only"):
        Chaos(RESETS, permit=ChaosPermit.in_test("a law"))
    with instant():
        chaos = Chaos(RESETS, permit=ChaosPermit.in_test("a law"), listeners=[])
        assert not reaches(chaos)
    assert reaches(chaos)  # and not for a moment longer


def test_a_permit_says_all_of_itself() -> None:
    assert str(permit(allowed=["staging", "dev"])) == "game day (until 2026-03-02 14:00:00 UTC, where APP_ENV is dev or staging)"
    assert repr(ChaosPermit.in_test("a law")) == "<ChaosPermit a law (in tests)>"
    assert (permit().why, permit().until, permit().at_most) == ("game day", NOON + timedelta(hours=2), 1000)
    assert (ChaosPermit.in_test("a law").until, ChaosPermit.in_test("a law").at_most) == (None, None)
    assert permit().kinds == ChaosPermit.in_test("a law").kinds == set(FaultKind)


def test_a_permit_never_changes() -> None:
    held: Any = permit()
    for name in ("why", "until", "kinds", "at_most"):
        with pytest.raises(AttributeError):
            setattr(held, name, None)


def test_times_of_other_zones_are_the_same_times() -> None:
    east = (NOON + timedelta(hours=1)).astimezone(tz=None)
    assert permit(until=east).until == NOON + timedelta(hours=1)


WRONG: dict[str, dict[str, Any]] = {
    "no reason": {"why": " "},
    "a time without a zone": {"until": datetime(2026, 3, 2, 13)},
    "no time": {"until": 3600},
    "no variable": {"variable": ""},
    "one name for several": {"allowed": "staging"},
    "no environment": {"allowed": []},
    "an empty environment": {"allowed": ["staging", ""]},
    "no kinds": {"kinds": []},
    "words for kinds": {"kinds": ["reset"]},
    "none at most": {"at_most": 0},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_permit_without_a_reason_a_place_or_an_end_cannot_be_made(wrong: str) -> None:
    with pytest.raises(ConfigurationError):
        permit(**WRONG[wrong])


# ---------------------------------------------------------------- saboteurs


def every_permit_holds(patch: pytest.MonkeyPatch) -> None:
    def fine(*_: object) -> None: ...

    patch.setattr(ChaosPermit, "refusal", fine)


def no_permit_is_needed(patch: pytest.MonkeyPatch) -> None:
    from finresilience.testing import chaos

    def lax(given: ChaosPermit | None, _: object) -> ChaosPermit:
        return given if isinstance(given, ChaosPermit) else permit()

    patch.setattr(chaos, "_permitted", lax)


def the_permit_is_looked_at_once(patch: pytest.MonkeyPatch) -> None:
    def noted(self: Chaos, strike: Any) -> bool:
        self._log.add(strike)
        return True

    patch.setattr(Chaos, "_noted", noted)


def with_patch(law: Callable[[pytest.MonkeyPatch], None]) -> Callable[[], None]:
    def run() -> None:
        with pytest.MonkeyPatch.context() as patch:
            law(patch)

    run.__name__ = law.__name__
    return run


def strikes_are_counted_without_a_lock(patch: pytest.MonkeyPatch) -> None:
    def noted(self: Chaos, strike: Any) -> bool:
        most, struck = self.permit.at_most, self._log.total
        if most is not None and struck >= most:
            return False
        self._log.add(strike)
        return True

    patch.setattr(Chaos, "_noted", noted)


@each_kill(
    (strikes_are_counted_without_a_lock, test_threads_share_what_the_permit_allows),
    (no_permit_is_needed, test_chaos_without_a_permit_is_refused_and_told_how_to_get_one),
    (no_permit_is_needed, test_a_yes_is_not_a_permit),
    (every_permit_holds, test_another_environment_refuses),
    (every_permit_holds, test_a_permit_of_yesterday_refuses),
    (every_permit_holds, test_a_permit_for_ever_refuses),
    (every_permit_holds, with_patch(test_a_permit_for_tests_holds_nowhere_else)),
    (the_permit_is_looked_at_once, test_a_permit_ends_while_the_service_runs),
    (the_permit_is_looked_at_once, with_patch(test_a_permit_is_taken_back_by_the_environment)),
    (the_permit_is_looked_at_once, test_no_more_is_injected_than_the_permit_allows),
)
def test_the_laws_are_awake(row: tuple[Any, ...]) -> None:
    kills(*row)
