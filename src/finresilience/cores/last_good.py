"""What was the last good answer to such a call, and how old is it? Bounded in number and in age."""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Hashable


@final
class Answers:
    """The newest answer for each key: at most `at_most` of them, the least recently used gives way, and none older than `max_age`.

    The age of an answer is counted from when its call began, since it may have been read that early. So no answer is
    shown younger than it is, and one that was slow on its way does not replace the answer to a later call.

    A core: told the time. Not thread-safe: the shell calls it under its lock.
    """

    __slots__ = ("_at_most", "_kept", "_max_age")

    def __init__(self, *, max_age: float, at_most: int) -> None:
        self._max_age = max_age
        self._at_most = at_most
        self._kept: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many are kept."""
        return len(self._kept)

    def keep(self, key: Hashable, answer: object, *, began: float, now: float) -> None:
        """Keep the answer to a call that began at `began`, unless a later call was answered before it."""
        self._make_room(now)
        known = self._kept.get(key)
        if known is not None and known[0] > began:
            return
        self._kept[key] = (began, answer)
        self._kept.move_to_end(key)
        if len(self._kept) > self._at_most:
            del self._kept[next(iter(self._kept))]

    def forget(self, key: Hashable, *, began: float) -> None:
        """Forget what a call that began at `began` has overtaken: its own answer was a no."""
        known = self._kept.get(key)
        if known is not None and known[0] <= began:
            del self._kept[key]

    def find(self, key: Hashable, now: float) -> tuple[float, Any] | None:
        """Return the age of the answer and the answer, or None where there is none young enough."""
        known = self._kept.get(key)
        if known is None:
            return None
        age = now - known[0]
        if age > self._max_age:
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return age, known[1]

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()

    def _make_room(self, now: float) -> None:
        """Let go of answers that are too old to be given; two for each that comes, so that none stays because nobody asks for it."""
        for key in [*islice(self._kept, 2)]:
            if now - self._kept[key][0] > self._max_age:
                del self._kept[key]


def exactly(key: object) -> Hashable:
    """Return what tells `key` from everything that merely equals it: to a dict, 1, 1.0 and True are the same account.

    A tuple, with or without names, is told by its parts too. What other objects hold is for them to compare.

    Raises:
        TypeError: if it cannot be hashed.
    """
    hash(key)
    parts = map(exactly, key) if isinstance(key, tuple) else ()
    return (key.__class__, key, *parts)
