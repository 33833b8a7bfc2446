"""One file for each framework or SDK; each needs what it is named after, and nothing of ours imports it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finresilience.integrations._exchange import CallNotes, notes_of

__all__ = ["CallNotes", "notes_of"]


def __getattr__(name: str) -> object:
    """Load what the guarded clients share when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from finresilience.integrations import _exchange

    return getattr(_exchange, name)
