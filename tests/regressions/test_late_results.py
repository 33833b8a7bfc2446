"""Two late results that answered differently passed for one: whoever kept them in a set lost the second payment's evidence."""

from __future__ import annotations

from typing import Any

import pytest

from finresilience import LateResult
from tests.laws.sabotage import each_kill, kills

Patch = pytest.MonkeyPatch


class NoTruth:
    """An array, say: compared, it answers with another array, which is neither true nor false."""

    def __eq__(self, other: object) -> Any:
        return self

    def __bool__(self) -> bool:
        raise ValueError

    __hash__ = None  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType] - as an array has none


def late(value: object = None, **more: Any) -> LateResult:
    said: dict[str, Any] = {"name": "acme", "source": "thread", "succeeded": True, "reference": "pay_1"} | more
    return LateResult(**said, value=value)


def law_two_late_results_are_equal_exactly_when_they_say_and_answer_the_same(one: object, other: object) -> None:
    assert late(one) == late(one)
    assert hash(late(one)) == hash(late(one))
    assert late(one) != late(other)
    assert late(one) != late(one, reference="pay_2")
    assert len({late(one), late(other)}) == 2


def test_two_late_results_are_equal_exactly_when_they_say_and_answer_the_same() -> None:
    """Equality went by what is shown, and the answer never is."""
    law_two_late_results_are_equal_exactly_when_they_say_and_answer_the_same("receipt 1", "receipt 2")


def test_equal_answers_need_not_be_the_same_object_nor_have_a_hash() -> None:
    assert late({"id": 1}) == late({"id": 1})
    assert hash(late({"id": 1})) == hash(late({"id": 1}))


def test_an_answer_that_cannot_be_compared_is_equal_to_itself_only() -> None:
    law_two_late_results_are_equal_exactly_when_they_say_and_answer_the_same(NoTruth(), NoTruth())


def test_a_late_result_is_no_other_thing() -> None:
    assert late("receipt") != "receipt"
    assert late("receipt").__eq__("receipt") is NotImplemented  # so that the other may say


def equality_goes_by_what_is_shown(patch: Patch) -> None:
    def eq(self: LateResult, other: object) -> bool:
        return repr(self) == repr(other)

    patch.setattr(LateResult, "__eq__", eq)


def equality_goes_by_the_answer(patch: Patch) -> None:
    def eq(self: LateResult, other: object) -> bool:
        return isinstance(other, LateResult) and self.value is other.value

    patch.setattr(LateResult, "__eq__", eq)


LAW = law_two_late_results_are_equal_exactly_when_they_say_and_answer_the_same


@each_kill(
    (equality_goes_by_what_is_shown, LAW, "receipt 1", "receipt 2"),
    (equality_goes_by_the_answer, LAW, "receipt 1", "receipt 2"),
)
def test_its_saboteur_is_found_out(row: tuple[Any, ...]) -> None:
    kills(*row)
