"""Which answers may stand in for a later one: those of the same operation, to the same question, not too old."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast, final

from finresilience._checks import positive_count, refuse, seconds_of
from finresilience.context import MAX_KEY
from finresilience.cores.last_good import exactly

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from datetime import timedelta

_CHANGEABLE: Final[frozenset[type[object]]] = frozenset({list, dict, set, bytearray})
_DIGEST: Final = object()  # equal to nothing that a key may hold


@final
class LastGood:
    """Let a `Fallback` give the last good answer to the same question, if it is young enough.

    Args:
        max_age: seconds; an older answer is never given.
        at_most: how many answers are kept; the least recently used gives way.
        key: from the call's arguments to what makes two questions the same, such as `lambda req: req.account`. It must name everything
            that the answer depends on; it says which question, not whose: a guard with this is for one function. None means: keep no
            answer to this one.

    Raises:
        ConfigurationError: if an argument cannot work.
    """

    __slots__ = ("at_most", "key", "max_age")

    def __init__(self, *, max_age: float | timedelta, key: Callable[..., Hashable | None], at_most: int = 1000) -> None:
        self.max_age: float = seconds_of("max_age", max_age)
        self.at_most: int = positive_count("at_most", at_most, most=1_000_000)
        if not callable(key):
            refuse("key", key, "a function of the call's arguments, such as lambda req: req.account")
        self.key: Callable[..., Hashable | None] = key

    def question(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable | None:
        """Return what the call asks, or None where nobody can say: an answer nobody could find again is not worth an error."""
        try:
            key = self.key(*args, **kwargs)
            return None if key is None else exactly(_short(key))
        except Exception:
            return None


def _short(key: object) -> object:
    """Return the key with a digest for each long text in it: what is kept has a bound in size too."""
    if key.__class__ is tuple:
        parts = cast("tuple[object, ...]", key)
        return tuple(map(_short, parts))
    if not isinstance(key, str) or len(key) <= MAX_KEY:
        return key
    from hashlib import sha256

    return (_DIGEST, sha256(key.encode("utf-8", "surrogatepass")).digest())


def own_copy(answer: object) -> object:
    """Return the answer so that nobody else can change it, as far as that goes: lists, dicts and sets are copied.

    Raises:
        TypeError: if it can be read only once, so that a second reader would find nothing.
    """
    if hasattr(type(answer), "__next__") or hasattr(type(answer), "__await__"):
        message = f"a {type(answer).__name__} can be read only once"
        raise TypeError(message)
    if answer.__class__ not in _CHANGEABLE:
        return answer
    from copy import deepcopy

    return deepcopy(answer)
