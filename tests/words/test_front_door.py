"""The front door: every public name is there, loads when it is first used, and nothing else is."""

from __future__ import annotations

import pytest

import finresilience


def test_every_public_name_is_there_sorted_and_shown() -> None:
    assert [getattr(finresilience, name) for name in finresilience.__all__]
    assert sorted(finresilience.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name)) == finresilience.__all__
    assert set(finresilience.__all__) <= set(dir(finresilience))


def test_a_name_that_is_not_there_is_told_as_any_module_tells_it() -> None:
    with pytest.raises(AttributeError, match=r"module 'finresilience' has no attribute 'Bulkheed'"):
        getattr(finresilience, "Bulkhe" + "ed")
