"""What the documentation shows is what happens; and what it costs to import."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys

import pytest

import finresilience.classify

ROOMS = ("classifier", "clients", "declines", "evidence", "extract", "http", "payments", "retry_after", "sockets", "sql", "statuses")
HEAVY = (
    "dataclasses",
    "email",
    "http",
    "inspect",
    "logging",
    "socket",
    "ssl",
    "anyio",
    "asyncio",
    "httpx",
    "aiohttp",
    "requests",
    "urllib3",
)


@pytest.mark.parametrize("room", ROOMS)
def test_the_examples_in_the_docstrings_are_true(room):
    failed, attempted = doctest.testmod(importlib.import_module(f"finresilience.classify.{room}"))
    assert attempted or room in ("clients", "evidence", "extract", "statuses")
    assert not failed


def test_every_public_name_is_there():
    for name in finresilience.classify.__all__:
        assert getattr(finresilience.classify, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'tea_classifier'"):
        finresilience.classify.tea_classifier
    with pytest.raises(AttributeError, match="no attribute 'tea'"):
        finresilience.classify.tea


def test_nothing_heavy_is_imported():
    script = (
        "import sys; before = set(sys.modules); from finresilience.classify import *; http_classifier; payments_classifier();"
        f"print(sorted((set(sys.modules) - before) & set({HEAVY})))"
    )
    command = [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path}; {script}"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
