"""The reference says what the source says, and leaves no public name out."""

from __future__ import annotations

import re

import pytest

import finresilience
from finresilience import testing
from finresilience.testing import saboteurs
from tests.docs.generate import PLACE, WRITERS
from tests.docs.pages import read
from tests.docs.reference_api import GROUPS, OTHER_ROOMS


@pytest.mark.parametrize("page", WRITERS)
def test_no_page_of_the_reference_has_grown_old(page: str) -> None:
    assert read(f"{PLACE}/{page}") == WRITERS[page](), "write it anew: python -m tests.docs.generate"


def test_every_public_name_stands_in_one_group() -> None:
    assert sorted(name for group in GROUPS.values() for name in group) == sorted(finresilience.__all__)
    assert {*OTHER_ROOMS["finresilience.testing"], *testing._ROOMS} == {*testing.__all__}


@pytest.mark.parametrize("name", sorted({*finresilience.__all__, *(name for names in OTHER_ROOMS.values() for name in names)}))
def test_every_public_name_has_a_line_that_says_something(name: str) -> None:
    assert re.search(rf"^- `(await )?{name}[(`].*: \S", read(f"{PLACE}/api.md"), flags=re.MULTILINE)


def test_every_event_has_its_row_and_every_error_its_own() -> None:
    told = read(f"{PLACE}/events.md") + read(f"{PLACE}/errors.md")
    names = [name for name in finresilience.__all__ if finresilience._HOMES[name] in {"events", "errors"}]
    assert [name for name in names if f"| `{name}` |" not in told] == ["Event", "Listener", "log_event"]


def test_every_saboteur_has_its_row_and_the_law_that_kills_it() -> None:
    rows = re.findall(r"^\| `(\w+)` \| \S.+ \| `(\w+)`: \S", read(f"{PLACE}/saboteurs.md"), flags=re.MULTILINE)
    assert sorted(rows) == sorted((row.name, row.law) for row in saboteurs.catalogue())
