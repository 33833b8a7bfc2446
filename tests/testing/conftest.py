"""What the tests of the kit share."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from finresilience.testing import threads


def trace_nothing(_tracer: object) -> None: ...


@pytest.fixture(params=["lines", "locks"])
def grain(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Hand over between lines, or only where locks are taken and given back: what holds must hold at both grains."""
    if request.param == "locks":
        blind = SimpleNamespace(settrace=trace_nothing, modules=sys.modules, _current_frames=sys._current_frames)
        monkeypatch.setattr(threads, "sys", blind)
    return str(request.param)
