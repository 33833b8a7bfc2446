"""What the documentation shows is what happens; and what it costs to import."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys
from typing import Any, get_args, get_type_hints

import pytest

import finresilience.classify
from finresilience.outcome import Classification, Verdict

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
def test_the_examples_in_the_docstrings_are_true(room: Any) -> None:
    failed, attempted = doctest.testmod(importlib.import_module(f"finresilience.classify.{room}"))
    assert attempted or room in ("clients", "evidence", "extract", "statuses")
    assert not failed


def test_every_public_name_is_there() -> None:
    for name in finresilience.classify.__all__:
        assert getattr(finresilience.classify, name) is not None


@pytest.mark.parametrize("name", ["tea_classifier", "tea", "_classifier", "sql", "Http_classifier"])
def test_no_other_name_is_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(finresilience.classify, name, raising=False)  # a room that was read is an attribute of its house
    with pytest.raises(AttributeError, match=f"module 'finresilience.classify' has no attribute '{name}'"):
        getattr(finresilience.classify, name)


def test_a_rule_can_be_read_by_tools_as_what_it_is() -> None:
    def judge(error: object) -> finresilience.classify.Rule:
        raise NotImplementedError

    told = get_type_hints(judge)["return"]
    assert {kind for kind in get_args(told) if isinstance(kind, type)} == {Classification, Verdict}
    assert len(get_args(told)) == 3


def test_nothing_heavy_is_imported() -> None:
    script = (
        "import sys; before = set(sys.modules); from finresilience.classify import *; http_classifier; payments_classifier();"
        f"print(sorted((set(sys.modules) - before) & set({HEAVY})))"
    )
    command = [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path}; {script}"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
