"""Small worlds for inquiries: a call that is lost, and an inquiry that answers by a script."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finresilience import (
    NON_RETRYABLE,
    RETRYABLE,
    UNKNOWN,
    ErrorClassifier,
    NotFound,
    Pipeline,
    StillUnknown,
    Verdict,
)
from tests.laws.worlds import Down, Lost, No, on, still

if TYPE_CHECKING:
    from finresilience import Event


ABSENT, VAGUE = NotFound(), StillUnknown()


class Receipt:
    def __init__(self, status: str) -> None:
        self.status = status


def says(status: str) -> Any:
    return lambda answer: isinstance(answer, Receipt) and answer.status == status


RULES = ErrorClassifier(
    {Down: RETRYABLE, No: NON_RETRYABLE},
    when=[
        (says("declined"), NON_RETRYABLE),
        (says("busy"), RETRYABLE),
        (says("pending"), Verdict(UNKNOWN, counts_against_provider=False)),
        (says("fined"), Verdict(NON_RETRYABLE, counts_against_provider=True)),
    ],
)


def acme(*policies: Any, heard: list[Event] | None = None, **more: Any) -> Pipeline:
    listeners = [] if heard is None else [heard.append]
    settings: dict[str, Any] = {"clock": still()} | more
    return Pipeline("acme", *policies, classify=RULES, listeners=listeners, **settings)


def asked(pipeline: Pipeline, *answers: Any, schedule: Any = (1, 5, 30), error: Any = Lost) -> tuple[Any, int]:
    """Return how a call that is lost ends if the inquiry answers so, and how often it was asked."""
    script = list(answers)

    @pipeline.inquiry(schedule=schedule)
    def find(*_: Any) -> Any:
        answer = script.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def charge(*_: Any) -> Any:
        raise error

    return pipeline.outcome(charge), len(answers) - len(script)


def aasked(pipeline: Pipeline, *answers: Any, schedule: Any = (1, 5, 30), error: Any = Lost, backend: str = "asyncio") -> tuple[Any, int]:
    """As `asked`, for the async twin; a number is how long that answer takes."""
    script = list(answers)

    @pipeline.inquiry(schedule=schedule)
    async def find(*_: Any) -> Any:
        answer = script.pop(0)
        if isinstance(answer, float):
            await anyio.sleep(answer)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def charge(*_: Any) -> Any:
        raise error

    return on(backend, pipeline.aoutcome, charge), len(answers) - len(script)


BOTH = pytest.mark.parametrize("form", ["sync", "asyncio", "trio"])


def ending(form: str, *answers: Any, heard: list[Event] | None = None, **more: Any) -> tuple[Any, int, Pipeline]:
    clock = still() if form == "sync" else None
    pipeline = acme(heard=heard, clock=clock)
    outcome, asks = asked(pipeline, *answers, **more) if form == "sync" else aasked(pipeline, *answers, backend=form, **more)
    return outcome, asks, pipeline
