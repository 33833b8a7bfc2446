"""Where do errors and responses keep their status, their code and their Retry-After? Attributes only, never messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from finresilience.clock import Clock

_STATUS: Final = ("status_code", "status", "http_status")
_CODES: Final = ("decline_code", "code", "sqlstate", "pgcode")


def status_of(subject: object) -> int | None:
    """Return the HTTP status that an error or a response carries, or None."""
    for holder in (subject, _attribute(subject, "response")):
        for name in _STATUS if holder is not None else ():
            status = _attribute(holder, name)
            if isinstance(status, int) and not isinstance(status, bool) and 100 <= status <= 999:  # noqa: PLR2004 - three digits
                return int(status)
    return None


def code_of(subject: object) -> str | None:
    """Return the provider's own code that an error or an answer carries, or None."""
    for name in _CODES:
        code = _attribute(subject, name)
        if isinstance(code, str):
            return code
    return None


def retry_after_of(subject: object, clock: Clock) -> float | None:
    """Return the seconds a response asks us to wait, or None."""
    raise NotImplementedError


def inner_error(error: BaseException) -> BaseException | None:
    """Return the error this one was raised from: its `__cause__`, or what its library hides elsewhere."""
    return error.__cause__


def _attribute(subject: object, name: str) -> object:
    try:
        return getattr(subject, name, None)
    except Exception:  # noqa: BLE001 - a property of somebody's error may do anything; we only asked
        return None
