"""How is one statement written for every driver? Once, with named parameters; each driver is given its own spelling."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from typing import Any, Final, TypeAlias, TypeVar, final

T = TypeVar("T")

Rows: TypeAlias = Sequence[Sequence[Any]]

_NAMED: Final = re.compile(r"(?<![:\w]):([a-z_]+)")


@final
class Sql:
    """One statement. `%` and `::` are not written in it, so that no driver reads more into it than is meant.

    Args:
        text: with parameters as `:name`.
        alone: whether it is whole by itself: it needs no transaction round it, and so goes to the server in one trip.
    """

    __slots__ = ("alone", "dollars", "names", "percents", "text")

    def __init__(self, text: str, *, alone: bool = False) -> None:
        self.text: str = " ".join(text.split())
        self.alone: bool = alone
        self.names: tuple[str, ...] = tuple(dict.fromkeys(_NAMED.findall(self.text)))
        places = {name: f"${n}" for n, name in enumerate(self.names, 1)}
        self.dollars: str = _NAMED.sub(lambda found: places[found[1]], self.text)
        self.percents: str = _NAMED.sub(r"%(\1)s", self.text)

    def __repr__(self) -> str:
        return f"<Sql {self.text[:60]}>"


Asked: TypeAlias = tuple[Sql, dict[str, Any]]
Deed: TypeAlias = Generator[Asked, Rows, T]
"""What a store does in one transaction: it yields statements, is sent their rows, and returns what came of it. It knows no driver."""
