"""What is kept of an error in a table? Its class and where it came from, so that like failures can be counted; never its message."""

from __future__ import annotations

from pathlib import PurePath
from typing import Final

from finresilience.durable.outbox import Failure

_LONGEST: Final = 300
_DEEPEST: Final = 1000


def failure_of(error: BaseException) -> Failure:
    """Return what may be kept of an error: the class, and the innermost place that it came through."""
    traceback, depth = error.__traceback__, 0
    where = ""
    while traceback is not None and depth < _DEEPEST:
        code = traceback.tb_frame.f_code
        where = f"{PurePath(code.co_filename).name}:{code.co_name}"
        traceback, depth = traceback.tb_next, depth + 1
    return Failure(_named(type(error)), where[:_LONGEST])


def failure_told_by(answer: object) -> Failure:
    """Return what may be kept of an answer that the rules judge to be a failure: its class."""
    return Failure(_named(type(answer)))


def _named(kind: type[object]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"[:_LONGEST]
