"""What does a caller hear whose request is not carried out under its idempotency key? Plain answers, which say no more than is true."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, final

from finresilience.durable.records import Indeterminate, InProgress, Mismatch, Replay
from finresilience.errors import UnknownOutcomeError
from finresilience.integrations.idempotency_answers import REPLAYED, HttpAnswer
from finresilience.integrations.problems import (
    ANSWER_NOT_KEPT,
    KEY_IN_USE,
    KEY_REUSED,
    MEDIA_TYPE,
    Problem,
    Problems,
    _whole_seconds,
)

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from finresilience.integrations.problems import Kind


_WAS_REPLAYED: Final = (REPLAYED.lower(), "true")


@final
class Replies:
    """Answer for a key that cannot be had. Internal.

    Args:
        problems: how unknown outcomes are told, and what the types begin with.
        counts: where it is noted.
        ask_again: the most that `Retry-After` says to a repeat that comes too early.
    """

    __slots__ = ("_ask_again", "_counts", "problems")

    def __init__(self, problems: Problems, counts: MutableMapping[str, int], *, ask_again: float) -> None:
        self.problems: Problems = problems
        self._counts = counts
        self._ask_again = ask_again

    def of(self, claim: Replay | InProgress | Mismatch | Indeterminate) -> HttpAnswer:
        """Return the answer to who cannot have the claim."""
        if isinstance(claim, Replay):
            return self._replayed(HttpAnswer.read(claim.record.response))
        if isinstance(claim, InProgress):
            self._counts["in_use"] += 1
            return self.told(KEY_IN_USE, retry_after=min(claim.retry_after, self._ask_again))
        if isinstance(claim, Mismatch):
            self._counts["reused"] += 1
            return self.told(KEY_REUSED)
        return self.unknown()

    def unknown(self) -> HttpAnswer:
        """Return the answer of which nobody knows how it ended: not run again, and no 500."""
        self._counts["unknown"] += 1
        held_back = "It is not run again under this key, until somebody has found out."
        return self.problem(
            UnknownOutcomeError("the request", attempts=1, happened="it was begun, and no end was noted", held_back=held_back)
        )

    def problem(self, error: Exception) -> HttpAnswer:
        """Return the answer for an error of ours."""
        found = self.problems.of(error)
        assert found is not None  # noqa: S101 - our own errors all have one
        return as_answer(found)

    def told(self, kind: Kind, *, retry_after: float | None = None, **members: Any) -> HttpAnswer:
        """Return a problem of this room."""
        body = {"type": self.problems._types + kind.name, "title": kind.title, "status": kind.status, "detail": kind.detail, **members}
        headers = {"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store"}
        if retry_after is not None:
            headers["Retry-After"] = _whole_seconds(retry_after)
        return as_answer(Problem(kind.status, headers, body))

    def _replayed(self, answer: HttpAnswer | None) -> HttpAnswer:
        if answer is not None and answer.kept:
            self._counts["replayed"] += 1
            return replay_of(answer)
        self._counts["not_kept"] += 1
        if answer is None:  # somebody else wrote these bytes: a person who resolved it by hand, or a later version
            return replay_of(self.told(ANSWER_NOT_KEPT))
        place = tuple(pair for pair in answer.headers if pair[0] == "location")
        said = self.told(ANSWER_NOT_KEPT, answered=answer.status)
        return replay_of(HttpAnswer(said.status, (*said.headers, *place), said.body))


def replay_of(answer: HttpAnswer) -> HttpAnswer:
    """Return the answer as a repeat gets it."""
    return HttpAnswer(answer.status, (*answer.headers, _WAS_REPLAYED), answer.body)


def as_answer(problem: Problem) -> HttpAnswer:
    """Return a problem as an answer."""
    headers = tuple((name.lower(), value) for name, value in problem.headers.items())
    return HttpAnswer(problem.status, headers, json.dumps(problem.body).encode("ascii"))
