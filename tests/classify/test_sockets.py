"""What a bare socket's error says, and what Python's own errors say."""

from __future__ import annotations

import builtins
import importlib
from typing import Any

from finresilience.classify import payments_classifier, sockets_classifier
from finresilience.classify.sockets import AT_ANY_TIME, NOT_SENT
from finresilience.outcome import RETRYABLE, UNKNOWN


def found(name: Any) -> Any:
    module, _, qualname = name.rpartition(".")
    return getattr(importlib.import_module(module), qualname)


# ---------------------------------------------------------------- sockets


def test_every_socket_error_has_a_meaning() -> None:
    classifier = sockets_classifier()
    for name in NOT_SENT:
        assert classifier.error(found(name).__new__(found(name))).classification is RETRYABLE
    for name in AT_ANY_TIME:
        assert classifier.error(found(name).__new__(found(name))).classification is UNKNOWN


def test_every_builtin_error_has_a_verdict() -> None:
    for kind in vars(builtins).values():
        if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, Warning | BaseExceptionGroup):
            told = payments_classifier().error(kind.__new__(kind)).classification
            assert told is (RETRYABLE if kind is ConnectionRefusedError else UNKNOWN), kind
