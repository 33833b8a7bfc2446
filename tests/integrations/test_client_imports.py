"""A client is imported when its own integration is, by nobody else; and whoever lacks it hears what to install."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

CLIENTS = ("aiohttp", "httpx", "httpx2", "requests", "stripe")


@pytest.mark.parametrize("name", CLIENTS)
def test_whoever_lacks_a_client_hears_what_to_install(name, monkeypatch):
    module = f"finresilience.integrations.{name}"
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf"needs {name}: pip install 'finresilience\[{name}\]'") as caught:
        importlib.import_module(module)
    assert caught.value.name == name


def test_what_is_missing_inside_a_client_is_told_as_it_is(monkeypatch):
    from finresilience.integrations._rules import needs

    missing = ModuleNotFoundError("No module named 'h11'", name="h11")
    assert needs("httpx", missing) is missing


def test_nothing_of_ours_imports_a_client_by_itself():
    code = (
        "import sys, finresilience, finresilience.integrations, finresilience.integrations._rules, finresilience.integrations._httpx_both\n"
        "import finresilience.integrations._stripe_words\n"
        f"print(sorted({set(CLIENTS)!r} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
