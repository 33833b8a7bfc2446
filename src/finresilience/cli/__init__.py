"""The command line: thin commands over the rooms. It reads, and writes only with `--apply`; who and why is recorded.

A command is a module with `add(parsers)`, which says what it takes, and a coroutine that is given the arguments and an `App` and returns
an `Answer`. `main.COMMANDS` names the modules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finresilience.cli.app import App

__all__ = ["App"]


def __getattr__(name: str) -> object:
    if name != "App":  # the only name here; it is not loaded by `--help`
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from finresilience.cli.app import App

    globals()[name] = App
    return App
