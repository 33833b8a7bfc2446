"""The last good answers, against a list that forgets nothing: the newest call's answer, young enough, at most so many."""

from __future__ import annotations

import os
from math import inf
from random import Random
from typing import Any

import pytest

from finresilience.cores.last_good import Answers, exactly

MOST, AGE = 3, 10.0


def law_what_is_found_is_the_answer_to_the_latest_call_and_no_older_than_it_may_be(make: Any) -> None:
    chance = Random(11)
    for _ in range(2000 if os.environ.get("FINRESILIENCE_DEEP") else 40):
        answers, now, truth = make(max_age=AGE, at_most=MOST), 0.0, dict[str, tuple[float, int]]()
        for number in range(80):
            now += chance.random() * 4
            key, began = chance.choice("abcde"), now - chance.random() * 3
            match chance.choice(["keep", "keep", "find", "find", "forget"]):
                case "keep":
                    answers.keep(key, number, began=began, now=now)
                    truth[key] = max(truth.get(key, (-inf, 0)), (began, number), key=lambda known: known[0])
                case "forget":
                    answers.forget(key, began=began)
                    if truth.get(key, (inf, 0))[0] <= began:
                        del truth[key]
                case _:
                    found = answers.find(key, now)
                    if found is not None:
                        began, last = truth.get(key, (-inf, 0))
                        assert found == (now - began, last)
                        assert found[0] <= AGE
            assert len(answers) <= MOST


def test_what_is_found_is_the_answer_to_the_latest_call_and_no_older_than_it_may_be() -> None:
    law_what_is_found_is_the_answer_to_the_latest_call_and_no_older_than_it_may_be(Answers)


def test_the_least_recently_used_gives_way() -> None:
    answers = Answers(max_age=AGE, at_most=2)
    answers.keep("a", 1, began=0, now=0)
    answers.keep("b", 2, began=0, now=0)
    assert answers.find("a", 1) == (1, 1)
    answers.keep("c", 3, began=1, now=1)
    assert [answers.find(key, 1) for key in "abc"] == [(1, 1), None, (0, 3)]


def test_an_answer_that_grew_too_old_is_let_go_though_nobody_asks_for_it() -> None:
    answers = Answers(max_age=AGE, at_most=100)
    for number in range(50):
        answers.keep(f"old {number}", number, began=0, now=0)
    for number in range(25):
        answers.keep(f"new {number}", number, began=11, now=11)
    assert len(answers) == 25


def test_what_is_cleared_is_gone() -> None:
    answers = Answers(max_age=AGE, at_most=2)
    answers.keep("a", 1, began=0, now=0)
    answers.clear()
    assert (len(answers), answers.find("a", 0)) == (0, None)


@pytest.mark.parametrize(("one", "other"), [(1, True), (1, 1.0), ((1,), (True,)), (("a", (0,)), ("a", (False,)))], ids=str)
def test_what_merely_equals_a_key_is_another_key(one: Any, other: Any) -> None:
    assert one == other
    assert exactly(one) != exactly(other)


@pytest.mark.parametrize("key", ["a", 1, None, (1, ("a", None)), frozenset({1})], ids=str)
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


class Boundless(Core):  # type: ignore[misc] # of no type
    """Saboteur: nothing gives way."""

    def __init__(self, *, max_age: float, at_most: int) -> None:
        super().__init__(max_age=max_age, at_most=10**9)


@pytest.mark.parametrize("saboteur", [LastToCome, Timeless, Younger, Deaf, Boundless])
def test_the_law_catches_the_saboteur(saboteur: Any) -> None:
    with pytest.raises(AssertionError):
        law_what_is_found_is_the_answer_to_the_latest_call_and_no_older_than_it_may_be(saboteur)
