"""A status is a statement about the work: what it says of the key."""

from __future__ import annotations

import json

import pytest

from finresilience.integrations.idempotency_answers import Answered, End, HttpAnswer, end_of

UNREADABLE = json.dumps({"detail": [{"type": "missing", "loc": ["body", "amount"], "msg": "Field required", "input": {}}]}).encode()

# ---------------------------------------------------------------- what a status says

HAPPENED = [200, 201, 202, 204, 302, 303, 304]
WILL_NOT = [400, 402, 410, 412, 416, 417, 422, 451]
NOT_BEGUN = [401, 403, 404, 405, 406, 407, 409, 411, 413, 414, 415, 421, 423, 425, 426, 428, 429, 431]
NOBODY_KNOWS = [408, 424, 460, 499, 500, 501, 502, 503, 504, 507, 599]
TABLE = [
    *((status, End.COMPLETE) for status in HAPPENED),
    *((status, End.FAIL) for status in WILL_NOT),
    *((status, End.RELEASE) for status in NOT_BEGUN),
    *((status, End.INDETERMINATE) for status in NOBODY_KNOWS),
]


@pytest.mark.parametrize(("status", "end"), TABLE, ids=str)
def test_a_status_says_how_it_ended(status: int, end: End) -> None:
    assert end_of(Answered(status)) is end


@pytest.mark.parametrize("status", range(200, 600))
def test_what_may_have_been_sent_is_never_released_by_a_status(status: int) -> None:
    told = {"retry-after": "1"}
    assert end_of(Answered(status, told, UNREADABLE, sent=True)) is not End.RELEASE


def test_a_refusal_that_says_when_to_come_back_was_not_begun() -> None:
    assert end_of(Answered(503, {"retry-after": "1"})) is End.RELEASE


def test_a_problem_below_400_is_an_unknown_outcome_and_no_success() -> None:
    assert end_of(Answered(202, {"content-type": "application/problem+json; charset=utf-8"})) is End.INDETERMINATE


def test_what_fastapi_could_not_read_was_not_begun() -> None:
    assert end_of(Answered(422, {}, UNREADABLE)) is End.RELEASE


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"detail":"insufficient funds"}',
        b'{"detail":[]}',
        b'{"detail":[{"type":"t","loc":["ledger"],"msg":"m"}]}',
        b'{"detail":[{"type":"t","loc":"body","msg":"m"}]}',
        b'{"detail":[{"type":"t","msg":"m"}]}',
        b'{"detail":[{"type":"t","loc":[["body"]],"msg":"m"}]}',
        b'{"detail":[1]}',
        b"\xff",
        b"[" * 60_000,
        b" " * 70_000 + UNREADABLE,
    ],
    ids=lambda body: repr(body[:40]),
)
def test_any_other_422_is_a_no_that_stays(body: bytes) -> None:
    assert end_of(Answered(422, {}, body)) is End.FAIL


def test_an_answer_shows_nothing_of_itself() -> None:
    answer = HttpAnswer.json(201, {"card": "4111"}, location="/p/4111")
    assert "4111" not in repr(answer)
    assert HttpAnswer.read(answer.stored(most=1000)) == answer
