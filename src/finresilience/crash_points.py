"""Where may a process die, so that a test can ask what is then true? Named places in the code, which do nothing in a running service.

A module declares its points once, each with the sentence of what is true there, and names the place where it passes:

    AFTER_PUBLISH: Final = declare("relay.after_publish", "the broker has the message, and the store does not know it yet")
    ...
    crash_point(AFTER_PUBLISH)

`finresilience.testing.crash` strikes there. Nobody else should: this module imports nothing, and knows no way to stop a process.
"""

from __future__ import annotations

TYPE_CHECKING = False  # a type checker takes it for true; `typing` itself would be an import
if TYPE_CHECKING:
    from collections.abc import Callable

_declared: dict[str, str] = {}
_watch: Callable[[str], object] | None = None


def declare(name: str, sentence: str) -> str:
    """Make `name` a crash point, where `sentence` says what is true if the process dies there, and return the name.

    Raises:
        ValueError: if the name is no lower-case "room.moment", the sentence is empty, or the name has another sentence already.
    """
    parts = name.split(".")
    if len(parts) < 2 or not all(part.isidentifier() and part == part.lower() for part in parts):
        message = f"a crash point is named room.moment in lower case, such as relay.after_publish, not {name!r}"
        raise ValueError(message)
    if not sentence.strip():
        message = f"the crash point {name} needs a sentence that says what is true there"
        raise ValueError(message)
    if _declared.setdefault(name, sentence) != sentence:  # the same once more is a module that was loaded again
        message = f"the crash point {name} is declared already, with another sentence: give each place a name of its own"
        raise ValueError(message)
    return name


def crash_point(name: str, /) -> None:
    """Do nothing, unless a test strikes here."""
    if _watch is not None:
        _watch(name)


def declared() -> dict[str, str]:
    """Return every point that was declared so far, with its sentence."""
    return dict(_declared)


def watch(function: Callable[[str], object] | None) -> None:
    """Call `function` with the name of each point that is passed, in any thread; None: do nothing there again. For tests."""
    global _watch  # noqa: PLW0603 - a module's global is the cheapest thing that can be looked at
    _watch = function
