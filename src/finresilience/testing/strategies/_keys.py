"""Which idempotency keys find mistakes? Those that something on the way may strip, fold, cut or read as a line of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, final
from unicodedata import normalize

from hypothesis import strategies as st

from finresilience.context import MAX_KEY

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

B = TypeVar("B")

_PLAIN: Final = "0123456789abcdefghijklmnopqrstuvwxyz_-"
_BLANKS: Final = " \t\n\r\x0b\x0c\x1c\x85\xa0\u2003\u3000"
_STRANGE: Final = (
    "pay_1\r\nX-Admin: 1",  # a header of its own
    "pay_1\x00",
    " pay_1 ",
    "pay:1%3A",  # what keys are derived with
    "../pay_1",
    "pay_1'; --",
    "p\u00e1y",  # one sign
    "pa\u0301y",  # the same, as two
    "\u202epay_1",  # read from the right
    "pay\u200b_1",  # of no width
    "\uff50\uff41\uff59",  # full width
    "\ud800",  # half a sign: UTF-8 has no bytes for it
    "\U0001f4b8",
    "P" * MAX_KEY,
    "P" * (MAX_KEY + 1),
)


def references() -> SearchStrategy[str]:
    """Plain references of payments, such as "pay_1": what a counterexample reads best with."""
    return st.integers(1, 999).map("pay_{}".format)


def idempotency_keys() -> SearchStrategy[str]:
    """Keys that the library takes, from plain to hostile: line breaks, blanks, look-alikes, half signs, and too long for a header."""
    plain = st.text(_PLAIN, min_size=1, max_size=40)
    return st.one_of(plain, st.sampled_from(_STRANGE), st.text(min_size=1).filter(str.strip), st.text(_PLAIN, min_size=250, max_size=300))


def hostile_keys() -> SearchStrategy[Any]:
    """What can be no key and must be refused at the door: nothing, blanks, and whatever is no text."""
    blank = st.text(_BLANKS, max_size=5)
    other = st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=20) | st.lists(st.text(max_size=3), max_size=2)
    return blank | other


@final
@dataclass(frozen=True, slots=True)
class AlikeKeys:
    """Two different keys that something careless takes for one.

    Args:
        first: a key.
        second: another.
        by: what makes them one: the name of the carelessness.
    """

    first: str
    second: str
    by: str


_CARELESS: Final[dict[str, Callable[[str], str]]] = {
    "case": lambda key: key.swapcase(),
    "blanks": lambda key: key + " ",
    "cut": lambda key: key.ljust(MAX_KEY, "_") + "x",
    "zeros": lambda key: "0" + key,
    "normal form": lambda key: normalize("NFD", key + "\u00e9"),
    "width": lambda key: key + "\uff11",
    "line": lambda key: key + "\n",
}
_TWIN: Final[dict[str, Callable[[str], str]]] = {
    "cut": lambda key: key.ljust(MAX_KEY, "_") + "y",
    "normal form": lambda key: normalize("NFC", key + "\u00e9"),
    "width": lambda key: key + "1",
}


def alike_keys() -> SearchStrategy[AlikeKeys]:
    """Pairs of keys that differ only in case, in blanks at the end, past the 255th character, or in Unicode form: two payments, not one."""
    plain = st.text(_PLAIN, min_size=1, max_size=20)
    pairs = st.builds(_alike, plain, st.sampled_from(sorted(_CARELESS)))
    return pairs.filter(lambda pair: pair.first != pair.second)


def _alike(key: str, by: str) -> AlikeKeys:
    return AlikeKeys(_TWIN.get(by, str)(key), _CARELESS[by](key), by)


@final
@dataclass(frozen=True, slots=True)
class KeyClash(Generic[B]):
    """One key, sent with two bodies: the second must be refused, and never answered with the first one's answer.

    Args:
        key: the key of both.
        body: what was sent first.
        other: what was sent then.
    """

    key: str
    body: B
    other: B


def same_key_other_body(bodies: SearchStrategy[B], *, keys: SearchStrategy[str] | None = None) -> SearchStrategy[KeyClash[B]]:
    """One key and two different bodies.

    Args:
        bodies: at least two of them, which differ by `==`.
        keys: by default `idempotency_keys()`.
    """
    clashes: SearchStrategy[KeyClash[B]] = st.builds(KeyClash, idempotency_keys() if keys is None else keys, bodies, bodies)
    return clashes.filter(lambda clash: clash.body != clash.other)
