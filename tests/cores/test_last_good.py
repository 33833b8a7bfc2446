"""The last good answers, against a list that forgets nothing: the newest call's answer, young enough, at most so many."""

from __future__ import annotations

import os
from math import inf
from random import Random
from typing import Any, NamedTuple

import pytest

from finresilience.cores.last_good import Answers, exactly

MOST, AGE, KEYS = 3, 10.0, "abcd"


def law_what_is_found_is_the_answer_to_the_latest_call_and_no_older_than_it_may_be(make: Any) -> None:
    chance, nothing = Random(11), (-inf, 0)
    for _ in range(2000 if os.environ.get("FINRESILIENCE_DEEP") else 40):
        most = chance.choice(
            [MOST, len(KEYS)]
        )  # with room for all, none gives way; else a later answer may have given way to an earlier one
        answers, now, truth = make(max_age=AGE, at_most=most), 0.0, dict[str, tuple[float, int]]()
        for number in range(80):
            now += chance.random() * 2
            key, began = chance.choice(KEYS), now - chance.random() * 5
            match chance.choice(["keep", "keep", "find", "find", "forget"]):
                case "keep":
                    answers.keep(key, (key, began, number), began=began, now=now)
                    truth[key] = max(truth.get(key, nothing), (began, number))
                case "forget":
                    answers.forget(key, began=began)
                    if truth.get(key, nothing)[0] <= began:
                        truth.pop(key, None)
                case _:
                    latest, last = truth.get(key, nothing)
                    age, answer = answers.find(key, now) or (inf, None)
                    assert age <= AGE or answer is None
                    assert answer is None or (answer[0], now - answer[1]) == (key, age)
                    if most == len(KEYS):
                        assert answer == (None if now - latest > AGE else (key, latest, last))
            assert len(answers) <= most


def test_what_is_found_is_the_answer_to_the_latest_call_and_no_older_than_it_may_be() -> None:
    law_what_is_found_is_the_answer_to_the_latest_call_and_no_older_than_it_may_be(Answers)


def test_the_least_recently_used_gives_way() -> None:
    answers = Answers(max_age=AGE, at_most=2)
    answers.keep("a", 1, began=0, now=0)
    answers.keep("b", 2, began=0, now=0)
    assert answers.find("a", 1) == (1, 1)
    answers.keep("c", 3, began=1, now=1)
    assert [answers.find(key, 1) for key in "abc"] == [(1, 1), None, (0, 3)]


def test_an_answer_is_given_until_the_end_of_its_last_second() -> None:
    answers = Answers(max_age=AGE, at_most=2)
    answers.keep("a", "ten", began=1, now=2)
    answers.keep("b", "nine", began=2, now=11)
    assert answers.find("a", 11) == (AGE, "ten")
    assert answers.find("a", 11.5) is None


def test_of_two_calls_that_began_together_the_one_that_ended_last_is_believed() -> None:
    answers = Answers(max_age=AGE, at_most=2)
    answers.keep("a", "first", began=1, now=2)
    answers.keep("a", "second", began=1, now=3)
    assert answers.find("a", 3) == (2, "second")
    answers.forget("a", began=1)
    assert answers.find("a", 3) is None


def test_a_no_to_an_earlier_call_says_nothing_of_a_later_answer() -> None:
    answers = Answers(max_age=AGE, at_most=2)
    answers.keep("a", 0, began=2, now=3)
    answers.forget("a", began=1)
    assert answers.find("a", 3) == (1, 0)


def test_an_answer_that_grew_too_old_is_let_go_though_nobody_asks_for_it() -> None:
    answers = Answers(max_age=AGE, at_most=100)
    for number in range(50):
        answers.keep(f"old {number}", number, began=0, now=0)
    for number in range(1, 26):
        answers.keep(f"new {number}", number, began=11, now=11)
        assert len(answers) == 50 - 2 * number + number  # each that comes looks at two


def test_what_is_cleared_is_gone() -> None:
    answers = Answers(max_age=AGE, at_most=2)
    answers.keep("a", 1, began=0, now=0)
    answers.clear()
    assert (len(answers), answers.find("a", 0)) == (0, None)


class Account(NamedTuple):
    number: Any


SAME = [(1, True), (1, 1.0), ((1,), (True,)), (("a", (0,)), ("a", (False,))), (Account(1), Account(True)), (Account(1), (1,))]


@pytest.mark.parametrize(("one", "other"), SAME, ids=str)
def test_what_merely_equals_a_key_is_another_key(one: Any, other: Any) -> None:
    assert one == other
    assert exactly(one) != exactly(other)


def test_what_the_class_of_a_tuple_tells_apart_stays_apart() -> None:
    class Tenant(tuple[int, ...]):  # noqa: SLOT001 - it has more than its parts
        name = "acme"

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Tenant) and (self.name, *self) == (other.name, *other)

        __hash__ = tuple.__hash__

    one, other = Tenant([1]), Tenant([1])
    assert exactly(one) == exactly(other)
    other.name = "umbrella"
    assert exactly(one) != exactly(other)


@pytest.mark.parametrize("key", ["a", 1, None, (1, ("a", None)), Account(1), frozenset({1})], ids=str)
def test_a_key_is_itself(key: Any) -> None:
    assert exactly(key) == exactly(key)
    assert hash(exactly(key)) == hash(exactly(key))


@pytest.mark.parametrize("key", [[], (1, []), {}], ids=str)
def test_what_cannot_be_hashed_is_no_key(key: Any) -> None:
    with pytest.raises(TypeError):
        exactly(key)


Core: Any = Answers  # final, but not for a saboteur


class LastToCome(Core):  # type: ignore[misc] # of no type
    """Saboteur: an answer that was slow on its way replaces a later one."""

    def keep(self, key: Any, answer: Any, *, began: float, now: float) -> None:
        self._kept.pop(key, None)
        super().keep(key, answer, began=began, now=now)


class Timeless(Core):  # type: ignore[misc] # of no type
    """Saboteur: any age will do."""

    def __init__(self, *, max_age: float, at_most: int) -> None:
        super().__init__(max_age=inf, at_most=at_most)


class Younger(Core):  # type: ignore[misc] # of no type
    """Saboteur: an answer is as old as its keeping."""

    def keep(self, key: Any, answer: Any, *, began: float, now: float) -> None:
        super().keep(key, answer, began=now, now=now)


class Deaf(Core):  # type: ignore[misc] # of no type
    """Saboteur: a no changes nothing."""

    def forget(self, key: Any, *, began: float) -> None: ...


class Forgetful(Core):  # type: ignore[misc] # of no type
    """Saboteur: whatever is heard of a question, the answer is gone."""

    def forget(self, key: Any, *, began: float) -> None:
        self._kept.pop(key, None)


class Boundless(Core):  # type: ignore[misc] # of no type
    """Saboteur: nothing gives way."""

    def __init__(self, *, max_age: float, at_most: int) -> None:
        super().__init__(max_age=max_age, at_most=10**9)


@pytest.mark.parametrize("saboteur", [LastToCome, Timeless, Younger, Deaf, Forgetful, Boundless])
def test_the_law_catches_the_saboteur(saboteur: Any) -> None:
    with pytest.raises(AssertionError):
        law_what_is_found_is_the_answer_to_the_latest_call_and_no_older_than_it_may_be(saboteur)
