"""The race of a hedged call: every order in which up to three arms can end, held against the join in other words."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import os
from itertools import permutations, product
from math import ceil, inf
from random import Random
from typing import TYPE_CHECKING, Any
from weakref import ref

import pytest

from finresilience.cores.hedge import Latencies, Quantile, Race
from finresilience.errors import ConfigurationError, DeadlineExceededError
from finresilience.outcome import Declined, Effect, Failed, Ok, Outcome, Refused, Unknown

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = ("ok", "no", "gate", "lost", "down", "refused")
MADE: dict[str, Any] = {
    "ok": lambda: Ok("paid"),
    "no": lambda: Declined(ValueError()),
    "gate": lambda: Declined(ValueError()),
    "lost": lambda: Unknown(ValueError()),
    "down": lambda: Failed(ValueError()),
    "refused": lambda: Refused(DeadlineExceededError("acme", 0.0)),
}
KIND_OF = {Ok: "ok", Declined: "no", Unknown: "lost", Failed: "down", Refused: "refused"}
WAYS = [(effect, keyed) for effect in Effect if effect.repeatable for keyed in (False, True)]


def law(ends: list[str], effect: Effect, *, keyed: bool) -> str:
    """The join, read from the top: Ok if any; a no that speaks for all; a doubt; a no at all; the last failure; refused only if all."""
    doubt = "lost" in ends
    speaks = ("no" in ends and keyed) or ({"no", "gate"} & set(ends) and effect is Effect.READ)
    ladder = [
        ("ok" in ends, "ok"),
        (bool(speaks), "no"),
        (doubt, "lost"),
        (bool({"no", "gate"} & set(ends)), "no"),
        ("down" in ends, "down"),
    ]
    return next((end for holds, end in ladder if holds), "refused")


def stops(seen: list[str], effect: Effect, *, keyed: bool) -> bool:
    """Whether what was seen settles the call whatever other arms may still do."""
    return "ok" in seen or (keyed and "no" in seen) or (effect is Effect.READ and bool({"no", "gate"} & set(seen)))


def raced(make: Any, kinds: tuple[str, ...], effect: Effect, *, keyed: bool) -> tuple[list[str], str]:
    """Start every arm at once, let them end in this order, and return what was heard until the race was over, and its end."""
    race = make(began=0.0, after=0.0, extra=len(kinds) - 1, effect=effect, keyed=keyed)
    numbers = [race.start(0.0) for _ in kinds]
    heard: list[str] = []
    for number, kind in zip(numbers, kinds, strict=True):
        heard.append(kind)
        race.ended(number, MADE[kind](), 1.0, final=kind == "no")
        if race.wait(1.0) is None:
            break
    return heard, KIND_OF[type(race.end()[1])]


def cases() -> Iterator[tuple[tuple[str, ...], Effect, bool]]:
    for length in (1, 2, 3):
        for kinds in product(KINDS, repeat=length):
            for effect, keyed in WAYS:
                yield kinds, effect, keyed


def broken_by(make: Any) -> list[Any]:
    wrong = []
    for kinds, effect, keyed in cases():
        heard, end = raced(make, kinds, effect, keyed=keyed)
        settled = [stops(list(kinds[: at + 1]), effect, keyed=keyed) for at in range(len(kinds))]
        wanted = settled.index(True) + 1 if True in settled else len(kinds)
        if (len(heard), end) != (wanted, law(heard, effect, keyed=keyed)):
            wrong.append((kinds, effect.value, keyed, heard, end))
    return wrong


def test_every_race_of_up_to_three_arms_is_over_when_it_is_settled_and_ends_by_the_join() -> None:
    assert broken_by(Race) == []


def test_the_order_of_the_arms_changes_nothing_that_is_known_of_the_money() -> None:
    for kinds, effect, keyed in cases():
        ends = {law(list(order), effect, keyed=keyed) for order in permutations(kinds)}
        assert len(ends) == 1


def test_an_answer_that_came_together_with_the_winners_no_is_heard() -> None:
    race = Race(began=0.0, after=0.0, extra=1, effect=Effect.READ, keyed=False)
    race.start(0.0)
    race.start(0.0)
    race.ended(1, MADE["no"](), 1.0)
    assert race.over
    race.ended(2, MADE["ok"](), 1.0)
    assert race.end()[0] == 2


@pytest.mark.parametrize("kind", ["ok", "no"])
def test_of_answers_that_came_together_the_first_ended_the_race(kind: str) -> None:
    race = Race(began=0.0, after=0.0, extra=2, effect=Effect.READ, keyed=False)
    assert [race.start(0.0) for _ in range(3)] == [1, 2, 3]
    for number in (2, 1, 3):
        race.ended(number, MADE[kind](), 1.0)
    assert (race.winner, race.end()[0]) == (2, 2)


def test_of_two_noes_the_one_that_speaks_for_every_arm_is_taken() -> None:
    race = Race(began=0.0, after=0.0, extra=1, effect=Effect.IDEMPOTENT, keyed=True)
    race.start(0.0)
    race.start(0.0)
    race.ended(1, MADE["gate"](), 1.0, final=False)
    assert not race.over
    race.ended(2, MADE["no"](), 2.0)
    assert (race.over, race.end()[0]) == (True, 2)


# ---------------------------------------------------------------- when the next arm starts


def race(after: float | None = 3.0, extra: int = 2, effect: Effect = Effect.READ) -> Race:
    return Race(began=10.0, after=after, extra=extra, effect=effect, keyed=False)


def test_the_first_arm_starts_at_once_and_each_other_one_after_its_wait() -> None:
    made = race()
    assert (made.wait(10.0), made.start(10.0)) == (0.0, 1)
    assert (made.wait(11.0), made.wait(13.0), made.start(13.0)) == (2.0, 0.0, 2)
    assert (made.wait(14.0), made.start(16.0)) == (2.0, 3)
    assert made.wait(100.0) == inf
    assert made.starts == [10.0, 13.0, 16.0]


def test_where_nobody_knows_how_long_to_wait_there_is_one_arm_only() -> None:
    made = race(after=None)
    made.start(10.0)
    assert made.wait(1e9) == inf
    made.ended(1, MADE["down"](), 11.0)
    assert made.wait(11.0) is None


@pytest.mark.parametrize("kind", ["down", "lost"])
def test_an_arm_that_fails_lets_the_next_one_start_at_once(kind: str) -> None:
    made = race()
    made.start(10.0)
    made.ended(1, MADE[kind](), 11.0)
    assert (made.wait(11.0), made.start(11.0), made.wait(11.0)) == (0.0, 2, 3.0)


def test_an_arm_that_we_refused_ourselves_is_not_tried_again() -> None:
    made = race()
    made.start(10.0)
    made.ended(1, MADE["refused"](), 11.0)
    assert made.wait(11.0) is None


def test_an_arm_that_was_refused_beside_another_hurries_nobody() -> None:
    made = race()
    made.start(10.0)
    made.start(13.0)
    made.ended(2, MADE["refused"](), 13.0)
    assert made.wait(14.0) == 2.0


@pytest.mark.parametrize("kind", ["down", "lost"])
def test_where_the_fault_is_our_own_no_further_arm_starts(kind: str) -> None:
    made = race()
    made.start(10.0)
    made.ended(1, MADE[kind](), 11.0, again=False)
    assert made.wait(11.0) is None


def test_after_a_no_that_settles_nothing_the_others_are_heard_and_none_is_added() -> None:
    made = race(effect=Effect.IDEMPOTENT_BY_NATURE)
    made.start(10.0)
    made.start(13.0)
    made.ended(2, MADE["no"](), 14.0)
    assert (made.winner, made.wait(100.0)) == (None, inf)
    made.ended(1, MADE["down"](), 101.0)
    assert (made.wait(101.0), made.end()[0]) == (None, 2)


def test_where_no_more_may_start_the_race_is_over_with_the_last_arm() -> None:
    made = race()
    made.start(10.0)
    made.no_more()
    assert made.wait(10.0) == inf
    made.ended(1, MADE["lost"](), 11.0)
    assert made.wait(11.0) is None


def test_an_arm_that_ended_well_or_unknown_is_in_doubt_for_who_is_told_no_more() -> None:
    for kind, effect in product(KINDS, [effect for effect in Effect if effect.repeatable]):
        made = race(effect=effect)
        made.start(10.0)
        made.start(10.0)
        made.ended(1, MADE[kind](), 11.0)
        assert made.in_doubt == (kind in {"ok", "lost"} and effect is not Effect.READ)
        assert (made.running(1), made.running(2)) == (False, True)


def test_a_race_lets_go_of_the_answers() -> None:
    made, answer = race(), {"paid"}
    held = ref(answer)
    made.ended(made.start(10.0), Ok(answer), 11.0)
    del answer
    assert held() == {"paid"}
    made.forget()
    assert held() is None


def test_nobody_is_told_the_end_of_a_race_before_an_arm_has_ended() -> None:
    made = race()
    made.start(10.0)
    with pytest.raises(AssertionError):
        made.end()


# ---------------------------------------------------------------- how long to wait


def law_the_delay_is_the_quantile_of_the_last_calls(make: Any) -> None:
    chance = Random(3)
    for share, window in product((0.01, 0.5, 0.95, 1.0), (20, 33)):
        latencies, seen = make(Quantile(share, minimum_calls=20, window=window)), list[float]()
        for _ in range(5000 if os.environ.get("FINRESILIENCE_DEEP") else 120):
            seen.append(chance.choice([chance.random(), 0.25]))
            latencies.note(seen[-1])
            last = sorted(seen[-window:])
            within = None if len(seen) < 20 else next(x for x in last if sum(y <= x for y in last) >= ceil(share * len(last)))
            assert latencies.delay == within


def test_the_delay_is_the_quantile_of_the_last_calls() -> None:
    law_the_delay_is_the_quantile_of_the_last_calls(Latencies)


def share_of_hedged_calls(latencies: Any) -> float:
    """Return the share of calls that get a second arm, which always answers 0.05 s later, once the provider is known."""
    chance, hedged = Random(5), 0
    for number in range(5000):
        seconds, delay = chance.expovariate(10), latencies.delay
        if delay is not None and seconds > delay:
            hedged += number >= 1000
            seconds = min(seconds, delay + 0.05)
        latencies.note(seconds)
    return hedged / 4000


def test_about_as_many_calls_are_hedged_as_the_quantile_leaves() -> None:
    assert 0.03 < share_of_hedged_calls(Latencies(Quantile(0.95))) < 0.08


def test_it_keeps_no_more_than_its_window() -> None:
    latencies = Latencies(Quantile(0.5, minimum_calls=1, window=5))
    for number in range(100):
        latencies.note(float(number))
    assert (latencies._sorted, list(latencies._order)) == ([95.0, 96.0, 97.0, 98.0, 99.0],) * 2
    assert latencies.delay == 97.0


WRONG: list[dict[str, Any]] = [
    *({"share": share} for share in (0.0, 1.1, "p95")),
    *({"minimum_calls": number} for number in (0, 2.5, 10_001)),
    *({"window": number} for number in (19, True, 10_001)),
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_what_cannot_work_is_refused_by_name_where_it_is_made(wrong: dict[str, Any]) -> None:
    [name] = wrong
    with pytest.raises(ConfigurationError, match=f"^{name}=.* cannot work: give "):
        Quantile(**{"share": 0.5, **wrong})


def test_ten_thousand_calls_may_be_looked_at_and_wanted() -> None:
    assert repr(Quantile(1, minimum_calls=10_000, window=10_000)) == "Quantile(1, minimum_calls=10000, window=10000)"


def test_a_quantile_shows_how_it_was_made() -> None:
    assert repr(Quantile(0.95)) == "Quantile(0.95, minimum_calls=20, window=200)"


# ---------------------------------------------------------------- the saboteurs


Core: Any = Race  # final, but not for a saboteur
Estimate: Any = Latencies


class FirstToEnd(Core):  # type: ignore[misc] # of no type
    """Whatever comes first ends the call: an unknown beats the Ok that follows it."""

    def ended(self, number: int, outcome: Outcome[Any], now: float, **told: Any) -> None:
        super().ended(number, outcome, now, **told)
        self._ended.sort(key=lambda ended: not isinstance(ended[1], Unknown))
        self._running.clear()
        self._left = 0

    def end(self) -> Any:
        return self._ended[0]


class AnyNo(Core):  # type: ignore[misc] # of no type
    """Any no wins, whatever an arm beside it may have done."""

    def ended(self, number: int, outcome: Outcome[Any], now: float, **told: Any) -> None:
        super().ended(number, outcome, now, **told)
        if isinstance(outcome, Declined):
            self.winner = number


class LastWord(Core):  # type: ignore[misc] # of no type
    """The arm that ended last speaks for all."""

    def end(self) -> Any:
        return self._ended[-1]


class NeverOver(Core):  # type: ignore[misc] # of no type
    """Waits for every arm although there is an answer."""

    @property
    def over(self) -> bool:
        return not self._running


class Forgetful(Estimate):  # type: ignore[misc] # of no type
    """Remembers every call there ever was."""

    def __init__(self, quantile: Quantile) -> None:
        super().__init__(Quantile(quantile.share, minimum_calls=quantile.minimum_calls, window=10_000))


class Hasty(Estimate):  # type: ignore[misc] # of no type
    """Judges from the first call on."""

    def __init__(self, quantile: Quantile) -> None:
        super().__init__(Quantile(quantile.share, minimum_calls=1, window=quantile.window))


class LeavesOutTheBeaten(Estimate):  # type: ignore[misc] # of no type
    """Learns from the arms that answered alone, and so takes the provider for ever faster."""

    def note(self, seconds: float) -> None:
        if self.delay is None or seconds <= self.delay:
            super().note(seconds)


def test_the_share_of_hedged_calls_catches_one_that_leaves_out_the_beaten() -> None:
    assert share_of_hedged_calls(LeavesOutTheBeaten(Quantile(0.95))) > 0.5


@pytest.mark.parametrize("saboteur", [FirstToEnd, AnyNo, LastWord, NeverOver])
def test_the_join_catches_the_saboteur(saboteur: Any) -> None:
    assert broken_by(saboteur) != []


@pytest.mark.parametrize("saboteur", [Forgetful, Hasty])
def test_the_law_of_the_quantile_catches_the_saboteur(saboteur: Any) -> None:
    with pytest.raises(AssertionError):
        law_the_delay_is_the_quantile_of_the_last_calls(saboteur)
