"""How does a FastAPI application answer for what its guarded calls raise, and how do its docs say so?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finresilience._checks import refuse
from finresilience.integrations.problems import KINDS, MEDIA_TYPE, TYPES

try:
    from fastapi import FastAPI  # noqa: TC002 - imported in earnest, to say so here if it is missing
except ModuleNotFoundError as _missing:
    _how = "finresilience.integrations.fastapi needs FastAPI: pip install 'finresilience[fastapi]'"
    raise ModuleNotFoundError(_how, name=_missing.name) from _missing

from finresilience.integrations.starlette import (
    DeadlineMiddleware,
    IdempotencyKeyMiddleware,
    ProblemMiddleware,
    Problems,
    install_handlers as _install_handlers,
    problem_response,
)

if TYPE_CHECKING:
    from typing import Unpack

    from finresilience.integrations.problems import ProblemOptions

__all__ = [
    "DeadlineMiddleware",
    "IdempotencyKeyMiddleware",
    "ProblemMiddleware",
    "Problems",
    "install_handlers",
    "problem_response",
    "problem_responses",
]


def install_handlers(app: FastAPI, **options: Unpack[ProblemOptions]) -> Problems:
    """Let `app` answer for errors of this library, and for declines, by problem details (RFC 9457); return what tells them.

    Handlers of your own, for one of these classes, stay as they are.

    Args:
        app: the application, before its first request.
        options: see `Problems`.

    Raises:
        ConfigurationError: if an option cannot work.
        RuntimeError: if the application has begun to serve.
    """
    return _install_handlers(app, **options)


def problem_responses(*statuses: int, types: str = TYPES) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI shows of the problems, for `responses=` of an application, a router or a route.

    Args:
        statuses: those that are shown; all, if none is named.
        types: as in `Problems`.

    Raises:
        ConfigurationError: if no problem has one of these statuses.
    """
    by_status: dict[int | str, dict[str, Any]] = {}
    for status in statuses or sorted({kind.status for kind in KINDS}):
        kinds = [kind for kind in KINDS if kind.status == status]
        if not kinds:
            refuse("statuses", status, f"some of {sorted({kind.status for kind in KINDS})}")
        by_status[status] = {
            "description": "; or: ".join(kind.title for kind in kinds),
            "content": {MEDIA_TYPE: {"schema": _schema([types + kind.name for kind in kinds])}},
        }
    return by_status


def _schema(types: list[str]) -> dict[str, Any]:
    text = {"type": "string"}
    return {
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {"type": {"type": "string", "enum": types}, "title": text, "status": {"type": "integer"}, "detail": text},
        "additionalProperties": True,
    }
