"""A pipeline that tries again whatever it may, and answers with a status: what the regressions about money share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finresilience import Constant, Pipeline, Retry
from finresilience.classify import evidence

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


def retrying(name: str = "acme", *more: Any, **settings: Any) -> Pipeline:
    return Pipeline(name, Retry(attempts=3, backoff=Constant(0)), *more, listeners=[], **settings)


class Answered(Exception):
    def __init__(self, status: int) -> None:
        self.status_code = status


def always(answer: Any) -> Callable[..., Any]:
    """What a saboteur puts in the place of a function that looks before it answers."""

    def blind(*_: Any, **__: Any) -> Any:
        return answer

    return blind


def no_error_is_instead_of_a_cancellation(patch: pytest.MonkeyPatch) -> None:
    """A saboteur: whatever a cancelled attempt raises is believed."""
    patch.setattr(evidence, "instead_of_cancellation", always(False))
