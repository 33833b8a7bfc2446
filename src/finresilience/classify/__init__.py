"""The classifier and its tables: HTTP by phase, decline codes, SQLSTATEs, sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finresilience.classify.classifier import ErrorClassifier, Rule

if TYPE_CHECKING:
    from finresilience.classify.declines import declines_classifier
    from finresilience.classify.http import http_classifier
    from finresilience.classify.payments import payments_classifier
    from finresilience.classify.sockets import sockets_classifier
    from finresilience.classify.sql import sql_classifier

__all__ = [
    "ErrorClassifier",
    "Rule",
    "declines_classifier",
    "http_classifier",
    "payments_classifier",
    "sockets_classifier",
    "sql_classifier",
]


def __getattr__(name: str) -> object:
    """Read a table when it is first asked for."""
    room, _, kind = name.partition("_")
    if kind != "classifier" or name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{room}"), name)
