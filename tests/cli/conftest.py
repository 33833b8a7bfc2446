"""A shell for commands, and a clock that stands still."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from finresilience.testing import instant
from tests.cli.commands import Shell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from finresilience.testing import ManualClock


@pytest.fixture
def clock() -> Iterator[ManualClock]:
    with instant() as told:
        yield told


@pytest.fixture
def finresilience(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> Shell:
    monkeypatch.delenv("FINRESILIENCE_DATABASE_URL", raising=False)
    return Shell(capsys, monkeypatch)
